"""Time that passes only when it is told to, or slept."""

from collections.abc import Callable


class FakeClock:
    """Implements the flow engine's `Clock`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self.on_sleep: Callable[[], object] = lambda: None
        """What happens while somebody sleeps."""

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self.on_sleep()

    def jump(self, seconds: float) -> None:
        """Somebody has set it ahead, or back; no time went by."""
        self._now += seconds

    def advance_to(self, when: float) -> None:
        """It is at least that late."""
        self._now = max(self._now, when)
