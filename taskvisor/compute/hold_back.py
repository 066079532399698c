"""When to look at a guest of which something was heard. Nova's `_event_emit_delayed`, as a value without threads.

A guest that is rebooted by somebody else stops and starts: who looks in between records a stop that was none. So a stop
is held back, and dropped when anything newer is heard of that guest. Everything else is looked at without delay.
Knows no hypervisor, no clock and no record; what is found by the look is `power_sync`'s.
"""

from collections.abc import Sequence

from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import GuestEvent, LifecycleChange

HOLD_S = 15.0
"""Nova's `_lifecycle_delay`."""
HELD_LIMIT = 10_000
"""Stops that are held at once; one more is looked at without delay, which may record a stop too soon and loses nothing."""

_HELD = frozenset({LifecycleChange.STOPPED, LifecycleChange.SHUTDOWN})
"""SHUTDOWN says that STOPPED is about to come, and begins its time. Nova does not listen to it."""


class HoldBack:
    """The stops that were heard and not yet looked at."""

    def __init__(self, *, hold_s: float = HOLD_S, held_limit: int = HELD_LIMIT) -> None:
        self._hold_s = hold_s
        self._held_limit = held_limit
        self._held: dict[InstanceId, tuple[LifecycleChange, float]] = {}
        self.stops_held = 0
        """Since the beginning; and of these, `stops_dropped` because the guest was heard of again."""
        self.stops_dropped = 0

    def take(self, events: Sequence[GuestEvent], now: float) -> tuple[InstanceId, ...]:
        """The guests to look at without delay, each once, in the order in which they were first heard of.

        `events` are in the order in which they were heard; `now` is any clock that does not jump, in seconds.
        """
        wanted: dict[InstanceId, None] = {}
        for event in events:
            self._forget(event.instance_id)
            if event.change in _HELD and len(self._held) < self._held_limit:
                wanted.pop(event.instance_id, None)
                self._hold(event, now)
            else:
                wanted[event.instance_id] = None
        return tuple(wanted)

    def take_due(self, now: float) -> tuple[InstanceId, ...]:
        """The guests whose stop has been held for long enough, the longest first. They are held no longer."""
        due = sorted((until, instance_id) for instance_id, (_, until) in self._held.items() if until <= now)
        for _, instance_id in due:
            del self._held[instance_id]
        return tuple(instance_id for _, instance_id in due)

    def due_in_s(self, now: float) -> float | None:
        """How long until `take_due` has one to give; None when none is held."""
        if not self._held:
            return None
        return max(0.0, min(until for _, until in self._held.values()) - now)

    def _hold(self, event: GuestEvent, now: float) -> None:
        self._held[event.instance_id] = (event.change, now + self._hold_s)
        if event.change is LifecycleChange.STOPPED:
            self.stops_held += 1

    def _forget(self, instance_id: InstanceId) -> None:
        change, _ = self._held.pop(instance_id, (None, 0.0))
        if change is LifecycleChange.STOPPED:
            self.stops_dropped += 1
