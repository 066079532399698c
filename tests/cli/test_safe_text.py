"""What a stranger wrote cannot drive a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.cli.safe_text import CONTROL_CHARACTERS, safe_line, safe_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode ✓\n\ttab", "plain ünïcode ✓\n\ttab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a new title\x07after", "after"),
        ("\x1b]52;c;cm0gLXJmIC8=\x1b\\after", "after"),
        ("\x1bP$q\x22p\x1b\\after", "after"),
        ("\x9b2Jafter", "after"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1b(0after", "after"),
        ("\x1b]0;never ended\nafter", "\nafter"),
        ("dos\r\nline\roverwritten", "dos\nlineoverwritten"),
        ("bell\a nul\0 back\b delete\x7f", "bell nul back delete"),
        ("\u202eevil\u2066", "evil"),
        ("\x1b\x1b[31mtwice", "twice"),
    ],
)
def test_escape_sequences_and_control_characters_are_gone(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@given(st.text(alphabet=st.sampled_from("\x1b\x9b\x9d\x07\x00\x7f\r\n[]0;mP\\ab\u202e")))
def test_nothing_that_a_terminal_obeys_is_ever_left(text: str) -> None:
    assert not CONTROL_CHARACTERS.search(safe_text(text))
    assert "\n" not in safe_line(text)


def test_a_line_is_one_line() -> None:
    assert safe_line("one\n two\r\nthree\r four") == "one two three four"
