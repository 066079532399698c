"""What the tasks of this process asked of Redis, added to the fleet's counters now and then.

One trip each `TELL_EVERY_S` at most, after a task: a process that has nothing to do tells nothing, and its last trips wait
for its next task. Must never know what a trip was for.
"""

import time
from collections.abc import Callable

from taskvisor.state.counters import CounterName, Counters, field_for
from taskvisor.state.histograms import HistogramName, amounts_for
from taskvisor.state.trips import Tally

TELL_EVERY_S = 10.0


class TripTeller:
    """Of one process; `node` is what the trips are told under."""

    def __init__(
        self, tally: Tally, counters: Counters, node: str, *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._tally = tally
        self._counters = counters
        self._node = node
        self._steady = steady
        self._told_at_s = steady()

    def tell_if_due(self) -> None:
        """The trips are counted, unless some were a moment ago. Lost, and the log says so, when Redis is silent."""
        if self._steady() - self._told_at_s < TELL_EVERY_S:
            return
        self._told_at_s = self._steady()
        trips = self._tally.take()
        amounts = list(amounts_for(HistogramName.REDIS_TRIP_DURATION, (self._node,), trips.durations_s))
        if trips.silent:
            amounts.append((field_for(CounterName.REDIS_TRIPS_SILENT, self._node), trips.silent))
        if amounts:
            self._counters.add_amounts(amounts)
