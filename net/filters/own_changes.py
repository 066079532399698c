"""Which of the kernel's counts of changes (net/filters/generation.py) were this process's own, so that it need not look again.

Each committed transaction raises the count by exactly one. So if it was n before one of ours and is n + 1 after, nobody else
came in between, and what was known at n of what we did not touch still holds.
"""


class OwnChanges:
    """The latest unbroken run of changes that this process made."""

    def __init__(self) -> None:
        self._first = self._last = -1

    def note(self, before: int, after: int) -> bool:
        """A transaction of ours was committed between these two counts. True when it alone was."""
        if after != before + 1:
            return False
        if self._last != before:
            self._first = before
        self._last = after
        return True

    def alone_since(self, seen: int, now: int) -> bool:
        """Nobody else changed anything between the counts `seen` and `now`."""
        return seen == now or (self._first <= seen <= now == self._last)
