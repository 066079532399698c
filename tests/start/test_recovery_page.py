"""docs/recovery.md says what the code does, and the tests that it names are there."""

import re

import pytest

from tasks.recovery_page import NEVER_RECOVERED, ROWS, recovery_page, steps_showing
from taskvisor.model.states import TaskState
from tests.fixtures.machine import ROOT


def test_the_page_is_fresh() -> None:
    command = "python -m tasks.recovery_page > docs/recovery.md"
    assert (ROOT / "docs" / "recovery.md").read_text() == recovery_page(), f"run: {command}"


@pytest.mark.parametrize("shown_by", sorted({test for row in ROWS for test in row.shown_by}))
def test_a_test_that_the_page_names_is_there(shown_by: str) -> None:
    file, _, function = shown_by.partition("::")
    text = (ROOT / file).read_text()
    assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE)


def test_every_row_of_novas_matrix_is_there() -> None:
    numbers = [part for row in ROWS for part in row.number.split(", ")]
    assert numbers == [*(str(number) for number in range(1, 17)), "†", "evac."]


def test_a_reboot_shows_what_was_asked_for() -> None:
    assert steps_showing(TaskState.REBOOT_PENDING) == steps_showing(TaskState.REBOOT_PENDING_HARD) != ()


def test_novas_stuck_states_are_those_of_the_facts() -> None:
    assert len(NEVER_RECOVERED) == 18
