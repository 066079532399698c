"""host.monitor: a host measures itself and its guests, and what its monitors make of that is added to the series.

One look at all domains a tick, never one a domain. The look before is kept in this process: with several control processes each
has its own, and the rates that it tells are over a longer time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite

import structlog

from taskvisor.compute.monitors import GuestLook, Look, Monitor, Values
from taskvisor.flow.ports import Ports
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.measured import TrafficCounters
from taskvisor.model.tick import Counts
from taskvisor.state.catalog import Catalog
from taskvisor.state.counters import CounterName, Counters
from taskvisor.state.series import Series

log = structlog.get_logger(__name__)

MONITOR = "host.monitor"

Told = dict[str, float | None]
"""Every metric that the monitors have, in their order."""


@dataclass(kw_only=True)
class HostMonitor:
    """One process's. `monitors` by name; `steady` is a clock that nobody sets."""

    host: HostName
    ports: Ports
    catalog: Catalog
    series: Series
    counters: Counters
    monitors: Mapping[str, Monitor]
    now: Callable[[], float]
    steady: Callable[[], float]
    _before: Look | None = field(default=None, init=False)

    def run(self) -> Counts:
        """A sample of the host and one of each of its instances are added. CannotAsk when the hypervisor can't be asked."""
        if not self.monitors:
            return {}
        at, look, ours = self.now(), self._look(), self.catalog.list_instance_ids(self.host)
        before, self._before = self._before, look
        failed: set[str] = set()
        values = self._values_of_host(look, before, failed)
        guests = self._values_of_guests(look, before, ours, failed)
        self.series.append(self.host, at, values, guests)
        self.counters.add_each(CounterName.MONITORS_FAILED, failed)
        return {"instances": len(guests), "monitors_failed": len(failed)}

    def _look(self) -> Look:
        usage = self.ports.hypervisor.read_usage()
        total_gib, free_gib = self.ports.disks.read_free_gib()
        return Look(
            at_s=self.steady(), usage=usage, disk_total_gib=total_gib, disk_free_gib=free_gib, traffic=self._traffic()
        )

    def _traffic(self) -> TrafficCounters | None:
        try:
            return self.ports.fabric.read_traffic()
        except CannotAsk as silence:
            log.warning("traffic_not_read", reason=str(silence))
            return None

    def _values_of_host(self, look: Look, before: Look | None, failed: set[str]) -> Told:
        found: Told = {}
        for name, monitor in self.monitors.items():
            values_of = partial(monitor.host_values, look, before)
            found.update(_told_by(name, monitor.host_metrics, values_of, failed))
        return found

    def _values_of_guests(
        self, look: Look, before: Look | None, ours: frozenset[InstanceId], failed: set[str]
    ) -> dict[InstanceId, Told]:
        former = {} if before is None else _guests_in(before)
        return {
            instance_id: self._values_of_guest(guest, former.get(instance_id), failed)
            for instance_id, guest in _guests_in(look).items()
            if instance_id in ours
        }

    def _values_of_guest(self, now: GuestLook, before: GuestLook | None, failed: set[str]) -> Told:
        found: Told = {}
        for name, monitor in self.monitors.items():
            values_of = partial(monitor.guest_values, now, before)
            found.update(_told_by(name, monitor.guest_metrics, values_of, failed))
        return found


def _guests_in(look: Look) -> dict[InstanceId, GuestLook]:
    return {guest.instance_id: GuestLook(at_s=look.at_s, usage=guest) for guest in look.usage.guests}


def _told_by(name: str, metrics: Mapping[str, str], values_of: Callable[[], Values], failed: set[str]) -> Told:
    """Each of the monitor's metrics, None where it can't be told. One that fails costs its own only."""
    try:
        values = values_of()
        return {metric: _number(values.get(metric)) for metric in metrics}
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything, and hinders nobody
        if name not in failed:
            log.warning("monitor_failed", monitor=name, reason=repr(error))
        failed.add(name)
        return dict.fromkeys(metrics)


def _number(value: float | None) -> float | None:
    """ValueError or TypeError for what is no number, or infinitely large."""
    if value is not None and not isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value
