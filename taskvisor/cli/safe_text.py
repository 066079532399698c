"""Text from elsewhere, made safe for a terminal: a guest's console or a server's error message must not drive it.

A terminal takes commands from what it shows: colours and titles, but also replies typed into the shell and the clipboard
(ECMA-48 §5.4, xterm's "Control Sequences"). So escape sequences go as a whole, then every control character that is left.
"""

import re

ESCAPE_SEQUENCE = re.compile(
    r"""
    (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]               # CSI … final
    | (?: \x1b[P\]X^_] | [\x90\x9d\x98\x9e\x9f] )         # DCS, OSC, SOS, PM, APC …
      [^\x07\x1b\x9c\n]* (?: \x07 | \x1b\\ | \x9c )?      # … to their terminator, or else to the end of the line
    | \x1b [ -/]* [0-~]                                   # all other sequences
    """,
    re.VERBOSE,
)
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 but for tab and newline, DEL, C1, what turns the direction of text, and what is no text (bytes read as lone surrogates)."""


def safe_text(text: str) -> str:
    """The text without escape sequences and control characters; newlines and tabs stay."""
    return CONTROL_CHARACTERS.sub("", ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n")))


def safe_line(text: str) -> str:
    """The same on one line."""
    return " ".join(safe_text(text.replace("\r", "\n")).split())
