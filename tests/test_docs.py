"""Pages that are made from the code say what the code says."""

from tasks.states_page import states_page
from tasks.steps_page import steps_page
from tests.fixtures.machine import ROOT
from virt.options.page import options_page


def test_the_page_of_steps_is_fresh() -> None:
    assert (ROOT / "docs" / "steps.md").read_text() == steps_page(), "run: python -m tasks.steps_page > docs/steps.md"


def test_the_page_of_guest_options_is_fresh() -> None:
    command = "python -m virt.options.page > docs/guest-options.md"
    assert (ROOT / "docs" / "guest-options.md").read_text() == options_page(), f"run: {command}"


def test_the_page_of_states_is_fresh() -> None:
    command = "python -m tasks.states_page > docs/states.md"
    assert (ROOT / "docs" / "states.md").read_text() == states_page(), f"run: {command}"
