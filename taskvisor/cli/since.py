"""Where in the stream of events a reader begins, as people say it: a cursor, how long ago, or when."""

import re
from datetime import datetime

from taskvisor.cli.exits import UsageError
from taskvisor.state.events import CURSOR, FROM_NOW, FROM_OLDEST

AGO = re.compile(r"(\d{1,9})\s*(s|m|h|d)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LAST_OF_ITS_MILLISECOND = 2**64 - 1


def cursor_for(text: str, now: float) -> str:
    """The cursor before the first event that is meant. `text`: a cursor, `0` (all), `now`, `15m`, `2h`, or ISO 8601 (local time
    unless it says its zone). UsageError for what is none of these.
    """
    if text == "now":
        return FROM_NOW
    if text == "0":
        return FROM_OLDEST
    if (ago := AGO.fullmatch(text)) is not None:
        return _before(now - int(ago[1]) * SECONDS[ago[2]])
    if "-" in text and CURSOR.fullmatch(text):
        return text
    try:
        return _before(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--since {text!r}: a cursor (1763769600000-0), 0, now, how long ago (15m, 2h, 3d) or a time (2026-11-21T14:00)"
        ) from error


def _before(at: float) -> str:
    """Of the millisecond before: Redis counts entries by its clock, in milliseconds, and reads after a cursor."""
    milliseconds = int(at * 1000) - 1
    return FROM_OLDEST if milliseconds <= 0 else f"{milliseconds}-{LAST_OF_ITS_MILLISECOND}"
