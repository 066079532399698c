"""How many moments there are at which a worker may die, flow by flow: `python -m tests.tasks.crash_points`.

The crash tests go through each of them, several times over: see `test_crashes.py` and `test_crash_*.py`.
"""

import logging
import tempfile
from pathlib import Path

import structlog

from tasks.flows import ALL_FLOWS
from taskvisor.flow.step import Flow
from taskvisor.model.errors import Refused
from taskvisor.model.states import Direction
from tests.fixtures.redis_servers import RedisServer
from tests.support.harness import HOP, Harness, watch_all
from tests.support.spies import Moment, RaiseAt, with_spied_step

COLUMNS = "{:<20}{:>7}{:>8}{:>10}{:>7}{:>12}{:>8}"


class Counting:
    """Counts moments by what is called; from the moment on that `since` has raised, if it is given."""

    def __init__(self, since: RaiseAt | None = None) -> None:
        self._since = since
        self.ports = self.journal = self.hops = 0

    def __call__(self, name: str, moment: Moment) -> None:
        del moment
        if self._since is not None and not self._since.raised:
            return
        if name == HOP:
            self.hops += 1
        elif name.startswith("journal."):
            self.journal += 1
        else:
            self.ports += 1

    @property
    def moments(self) -> int:
        return self.ports + self.journal + self.hops


def count_forward(harness: Harness) -> Counting:
    """The moments of a flow to which nothing happens."""
    fleet, counting = harness.open_fleet(), Counting()
    harness.begin(fleet)
    watch_all(fleet, counting)
    fleet.post.deliver_all()
    fleet.close()
    return counting


def count_roll_back(harness: Harness, step: str) -> int:
    """The moments after `step` was refused, when it had had its effect."""
    refusal = RaiseAt(Moment.AFTER, lambda: Refused("no"))
    fleet, counting = harness.open_fleet(with_spied_step(harness.flow, step, Direction.DO, refusal)), Counting(refusal)
    harness.begin(fleet)
    watch_all(fleet, counting)
    fleet.post.deliver_all()
    fleet.close()
    return counting.moments


def row_for(flow: Flow, redis_url: str) -> tuple[int, ...]:
    """Steps, moments by kind on the way forward, moments of all roll-backs, and the sum."""
    with tempfile.TemporaryDirectory(prefix="tvt-") as directory:
        harness = Harness(flow, redis_url, Path(directory))
        there = count_forward(harness)
        back = sum(count_roll_back(harness, step.name) for step in flow.steps)
        harness.close()
    return len(flow.steps), there.ports, there.journal, there.hops, back, there.moments + back


def main() -> None:
    """Print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(COLUMNS.format("flow", "steps", "ports", "journal", "hops", "roll-backs", "points"))
    sums = [0] * 6
    with tempfile.TemporaryDirectory(prefix="tvt-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            for number, flow in enumerate(ALL_FLOWS):
                row = row_for(flow, server.url(number % 16))
                sums = [total + count for total, count in zip(sums, row, strict=True)]
                print(COLUMNS.format(flow.name, *row))
        finally:
            server.stop()
    print(COLUMNS.format(f"{len(ALL_FLOWS)} flows", *sums))


if __name__ == "__main__":
    main()
