"""Seconds, bytes and times as people read them."""

from datetime import datetime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def seconds_text(seconds: float) -> str:
    """`8 ms`, `0.3 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def age_text(seconds: float) -> str:
    """The largest unit only: `12s`, `5m`, `3h`, `9d`."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def bytes_text(size: float) -> str:
    """`0 B`, `1.5 MiB`, `20 GiB`."""
    unit = 0
    while size >= 1023.95 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 or size >= 99.95 else f"{size:.1f} {UNITS[unit]}"


def clock_text(at: float) -> str:
    """Local time of day, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def time_text(at: float) -> str:
    """Local date and time, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
