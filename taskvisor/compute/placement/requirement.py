"""What a flavor's extra spec demands of a word or a number that a host has: Nova's operators, and no more of them than are used.

See https://docs.openstack.org/nova/latest/admin/scheduling.html (ComputeCapabilitiesFilter): `>=`, `<=`, `==` (also `=`), `!=`
before a number; `s==`, `s!=` before a text; `<in>` a part of it; `<or>` one of several; a text alone is the same text.
"""

import operator
from collections.abc import Callable, Mapping

from taskvisor.model.errors import Refused

NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "=": operator.ge,  # Nova's own reading: "=" is "at least"
    "!=": operator.ne,
}
TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "<in>": lambda has, part: part in has,
}


def require_requirement(key: str, text: str) -> None:
    """Refused when the text is no requirement: an operator without a value, or a number's operator before none."""
    first, _, rest = text.strip().partition(" ")
    values = rest.split("<or>") if first == "<or>" else [rest]
    if first in (*NUMBERS, *TEXTS, "<or>") and not all(value.strip() for value in values):
        raise Refused(f"{key}={text!r}: {first} needs a value after it")
    if first in NUMBERS and _number(rest) is None:
        raise Refused(f"{key}={text!r}: {first} compares numbers, and {rest.strip()!r} is none; use s== for texts")


def meets(found: str, requirement: str) -> bool:
    """Whether what a host has is as required. A number's operator is never met by what is no number."""
    first, _, rest = requirement.strip().partition(" ")
    if first in NUMBERS:
        has, wanted = _number(found), _number(rest)
        return has is not None and wanted is not None and NUMBERS[first](has, wanted)
    if first in TEXTS:
        return TEXTS[first](found, rest.strip())
    if first == "<or>":
        return found in {value.strip() for value in rest.split("<or>")}
    return found == requirement.strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
