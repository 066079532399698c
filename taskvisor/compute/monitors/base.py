"""What a monitor is: the metrics that it tells, and how it makes them of two looks.

A stranger's monitor is a class like ours in a distribution that names it under the entry points `taskvisor.monitors`:

    [project.entry-points."taskvisor.monitors"]
    inlet = "acme_monitors:InletMonitor"

It is made without arguments, once per process, and asked at each tick. It may read what it likes of the host, as a file of the
kernel's; what takes longer than a moment keeps the host's other periodic tasks waiting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from taskvisor.model.measured import GuestUsage, HostUsage, TrafficCounters

Values = Mapping[str, float]
"""Metrics by name. One that can't be told now is left out."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """All that was measured of a host at one time. `at_s`: by a clock that nobody sets; only differences mean something."""

    at_s: float
    usage: HostUsage
    disk_total_gib: int
    disk_free_gib: int
    traffic: TrafficCounters | None


@dataclass(frozen=True, kw_only=True)
class GuestLook:
    """One guest of a look."""

    at_s: float
    usage: GuestUsage


class Monitor:
    """Subclasses name their metrics with their units, and tell those of the host, of each guest, or both.

    `before` is the look before, of the same process; None at its first. What needs two looks is then left out, not guessed.
    """

    host_metrics: ClassVar[Mapping[str, str]] = {}
    guest_metrics: ClassVar[Mapping[str, str]] = {}

    def host_values(self, now: Look, before: Look | None) -> Values:  # noqa: ARG002 - for those that tell of hosts
        """The metrics of the host."""
        return {}

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:  # noqa: ARG002 - likewise, of guests
        """The metrics of one guest."""
        return {}


def per_second(now: int, before: int, elapsed_s: float) -> float | None:
    """How fast a counter grows. None when it was set back, as that of a guest which was started anew, or no time went by."""
    return (now - before) / elapsed_s if elapsed_s > 0 and now >= before else None


def known(values: Mapping[str, float | None]) -> Values:
    """Those that can be told."""
    return {name: value for name, value in values.items() if value is not None}
