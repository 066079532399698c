"""What an operator gives the weighers of placement: names and numbers."""

import re
from collections.abc import Mapping
from math import isfinite

WEIGHT_MOST = 1e9


def parse_weights(text: str) -> Mapping[str, float]:
    """NAME=NUMBER, with commas between them. ValueError says which is wrong; whether the names are known is not asked here."""
    found: dict[str, float] = {}
    for pair in filter(None, text.split(",")):
        name, equals, number = pair.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or name in found:
            raise ValueError(f"{pair!r}: must be NAME=NUMBER, each name once, with commas between them")
        try:
            weight = float(number)
        except ValueError:
            raise ValueError(f"{pair!r}: {number!r} is no number") from None
        if not isfinite(weight) or abs(weight) > WEIGHT_MOST:
            raise ValueError(f"{pair!r}: must be between {-WEIGHT_MOST:g} and {WEIGHT_MOST:g}")
        found[name] = weight
    return found
