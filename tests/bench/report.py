"""How figures are told: percentiles, aligned rows, what was aimed at. Knows nothing of what is measured."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

_BEGAN = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line. `aim` is shown as it is; `met` is None where nothing was aimed at. `other` is what Nova took."""

    what: str
    value: str
    aim: str = ""
    met: bool | None = None
    other: str = ""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def p50(values: Sequence[float]) -> float:
    return percentile(values, 50)


def progress(what: str) -> None:
    """Told on standard error, with the seconds since the start."""
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {what}", file=sys.stderr, flush=True)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows under their title, their columns aligned."""
    cells = [(row.what, row.value, _aim(row), row.other) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(4)]
    lines = (
        f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {aim:<{widths[2]}}  {other}".rstrip()
        for what, value, aim, other in cells
    )
    return "\n".join((title, *lines, ""))


def _aim(row: Row) -> str:
    if row.met is None:
        return row.aim
    return f"{row.aim}: {'met' if row.met else 'MISSED'}"
