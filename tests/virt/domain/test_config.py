"""The words that libvirt writes values with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virt.domain.config import number_set, on_off, yes_no


def numbers_in(text: str) -> frozenset[int]:
    ranges = [part.split("-") for part in text.split(",")]
    return frozenset(number for ends in ranges for number in range(int(ends[0]), int(ends[-1]) + 1))


@given(st.frozensets(st.integers(min_value=0, max_value=300), min_size=1))
def test_a_set_of_numbers_reads_back_as_it_was(numbers: frozenset[int]) -> None:
    text = number_set(numbers)
    assert text is not None
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(
    ("numbers", "text"),
    [({3}, "3"), ({0, 1}, "0-1"), ({8, 2, 1, 0, 3}, "0-3,8"), ({0, 2, 4}, "0,2,4"), (set(), None)],
)
def test_neighbours_are_a_range(numbers: set[int], text: str | None) -> None:
    assert number_set(frozenset(numbers)) == text


def test_what_is_not_said_is_left_to_libvirt() -> None:
    assert (number_set(None), on_off(None), yes_no(None)) == (None, None, None)
    assert [on_off(True), on_off(False), yes_no(True), yes_no(False)] == ["on", "off", "yes", "no"]
