"""Lists of CPUs."""

import pytest

from taskvisor.model.cpu_list import cpu_list_text, parse_cpu_list


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", set()), ("3", {3}), ("0-3,8", {0, 1, 2, 3, 8}), (" 1 , 4-5\n", {1, 4, 5}), ("65535", {65535})],
)
def test_a_list_of_cpus_is_read(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", "3", "0-3,8", "1,4-5", "65535"])
def test_cpus_are_written_as_they_are_read(text: str) -> None:
    assert cpu_list_text(parse_cpu_list(text)) == text


@pytest.mark.parametrize("text", ["a", "-1", "1-", "3-1", "0-65536", "99999999999-99999999999", "1;2", "٣", "^0"])
def test_what_is_no_list_of_cpus_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="CPU"):
        parse_cpu_list(text)
