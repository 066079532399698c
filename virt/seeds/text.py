"""Values as text that cloud-init reads, by a YAML parser or a JSON one, as what was meant. Pure; knows no file's meaning.

What we write is JSON, in YAML's clothes where YAML is asked for, so that no name, key or address can break out of its quotes.
"""

import json
import re
from collections.abc import Mapping, Sequence

Value = str | int | bool | None | Sequence["Value"] | Mapping[str, "Value"]

_NOT_PLAIN = re.compile("[^\x20-\x7e]")


def yaml_for(value: Value) -> str:
    """The value as one line of YAML."""
    # Not json's own ASCII escapes: of a letter beyond U+FFFF they make two, which YAML reads as two letters.
    return _NOT_PLAIN.sub(_escape, json.dumps(value, ensure_ascii=False)) + "\n"


def json_for(value: Value) -> str:
    """The value as one line of JSON in ASCII."""
    return json.dumps(value) + "\n"


def _escape(match: re.Match[str]) -> str:
    code_point = ord(match[0])
    return f"\\u{code_point:04x}" if code_point <= 0xFFFF else f"\\U{code_point:08x}"
