"""Where a guest's screen is, as its host says."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScreenLook:
    """`port` of its VNC server; None: there is none now, and `problem` says why."""

    port: int | None = None
    problem: str | None = None
