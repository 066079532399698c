"""How long something has waited, counted and not read off a clock: for ages that end in something being taken away.

Each look adds the time since the last look, at most `LOOKS` periods of it and never less than nothing. So a clock that jumps
ahead makes nothing old, one that jumps back makes nothing young, and time in which nobody looked does not count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LOOKS = 2
"""A look that came late counts for so many periods at most."""


@dataclass(frozen=True, kw_only=True)
class Waited:
    """So long by all looks so far, the last of which was at `seen_at`."""

    waited_s: float
    seen_at: float


def waited_after(
    before: Mapping[str, Waited], present: Iterable[str], *, now: float, period_s: float
) -> dict[str, Waited]:
    """How long each that is present has waited, after this look. What is not present any more is forgotten."""
    return {one: _seen_again(before.get(one), now, period_s) for one in present}


def _seen_again(before: Waited | None, now: float, period_s: float) -> Waited:
    if before is None:
        return Waited(waited_s=0.0, seen_at=now)
    gone_by_s = min(max(now - before.seen_at, 0.0), LOOKS * period_s)
    return Waited(waited_s=before.waited_s + gone_by_s, seen_at=now)
