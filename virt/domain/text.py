"""Any text as text that XML 1.0 can carry, and back.

Names and metadata come from callers and may hold what no XML document may (control characters, lone surrogates); libvirt
drops some of it silently. The escape is a backslash, `u` and the code point, so that nearly all text stays readable.
"""

import re

# Not a Char of XML 1.0 (https://www.w3.org/TR/xml/#charsets), and the escape's own first character.
_UNSAFE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\\\\")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


def escaped(text: str) -> str:
    """Text that any XML attribute can carry; `unescaped` gives the original back."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def one_line(text: str) -> str | None:
    """The text for a person to read, on one line, without what cannot be shown; None when nothing is left."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split()) or None
