"""Which monitors there are, by name: ours, and those of installed distributions (entry points `taskvisor.monitors`).

Ours are registered in pyproject.toml like a stranger's; the table here makes them known in a checkout that was not installed
since one was added.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from taskvisor.compute.monitors.base import Monitor
from taskvisor.compute.monitors.cpu import CpuMonitor
from taskvisor.compute.monitors.disk import DiskMonitor
from taskvisor.compute.monitors.memory import MemoryMonitor
from taskvisor.compute.monitors.network import NetworkMonitor
from taskvisor.model.errors import Refused

GROUP = "taskvisor.monitors"
OURS: Mapping[str, type[Monitor]] = {
    "cpu": CpuMonitor,
    "memory": MemoryMonitor,
    "disk": DiskMonitor,
    "network": NetworkMonitor,
}


def load_monitors(names: Iterable[str]) -> Mapping[str, Monitor]:
    """The monitors of these names, in this order.

    Refused, with the name and what is known, for one that nobody has, that can't be loaded or is none; and with both names for
    two that tell the same metric, or bear the same name.
    """
    strangers = {point.name: point for point in entry_points(group=GROUP) if point.value != _value_of(point.name)}
    if clash := sorted(strangers.keys() & OURS.keys()):
        raise Refused(
            f"monitors: {clash[0]!r} is the name of one of ours, and of {strangers[clash[0]].value}; remove that one"
        )
    loaded: dict[str, Monitor] = {}
    for name in names:
        monitor = OURS[name]() if name in OURS else _loaded(name, strangers)
        _require_own_metrics(name, monitor, loaded)
        loaded[name] = monitor
    return loaded


def _value_of(name: str) -> str | None:
    """How pyproject.toml names one of ours."""
    kind = OURS.get(name)
    return None if kind is None else f"{kind.__module__}:{kind.__qualname__}"


def _loaded(name: str, strangers: Mapping[str, EntryPoint]) -> Monitor:
    point = strangers.get(name)
    if point is None:
        known = ", ".join(sorted({*OURS, *strangers}))
        raise Refused(f"monitors: {name!r}: there is no such monitor (entry points {GROUP}); known: {known}")
    try:
        monitor = point.load()()
    except Exception as error:
        raise Refused(
            f"monitors: {name!r} ({point.value}) can't be loaded: {error!r}; mend it, or leave it out"
        ) from error
    if not isinstance(monitor, Monitor):
        raise Refused(f"monitors: {name!r} ({point.value}) is no {Monitor.__module__}.{Monitor.__qualname__}")
    return monitor


def _require_own_metrics(name: str, monitor: Monitor, loaded: Mapping[str, Monitor]) -> None:
    for other, there in loaded.items():
        shared = (monitor.host_metrics.keys() & there.host_metrics.keys()) | (
            monitor.guest_metrics.keys() & there.guest_metrics.keys()
        )
        if shared:
            raise Refused(f"monitors: {name!r} and {other!r} both tell {min(shared)}; leave one of them out")
