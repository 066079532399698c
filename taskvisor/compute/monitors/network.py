"""How fast bytes and packets come and go: on the host's own interfaces, and on each guest's NICs, as the guest sees them."""

from collections.abc import Mapping
from typing import ClassVar

from taskvisor.compute.monitors.base import GuestLook, Look, Monitor, Values, known, per_second
from taskvisor.model.measured import TrafficCounters

METRICS: Mapping[str, str] = {
    "network.rx.bytes": "B/s",
    "network.tx.bytes": "B/s",
    "network.rx.packets": "1/s",
    "network.tx.packets": "1/s",
    "network.rx.drops": "1/s",
    "network.tx.drops": "1/s",
}


class NetworkMonitor(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = METRICS
    guest_metrics: ClassVar[Mapping[str, str]] = METRICS

    def host_values(self, now: Look, before: Look | None) -> Values:
        """Of all interfaces of the host that lead out of it, since the look before."""
        return {} if before is None else _rates(now.traffic, before.traffic, now.at_s - before.at_s)

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:
        """Of all its NICs together, since the look before."""
        return {} if before is None else _rates(now.usage.traffic, before.usage.traffic, now.at_s - before.at_s)


def _rates(now: TrafficCounters | None, before: TrafficCounters | None, elapsed_s: float) -> Values:
    if now is None or before is None:
        return {}
    return known(
        {
            "network.rx.bytes": per_second(now.rx_bytes, before.rx_bytes, elapsed_s),
            "network.tx.bytes": per_second(now.tx_bytes, before.tx_bytes, elapsed_s),
            "network.rx.packets": per_second(now.rx_packets, before.rx_packets, elapsed_s),
            "network.tx.packets": per_second(now.tx_packets, before.tx_packets, elapsed_s),
            "network.rx.drops": per_second(now.rx_drops, before.rx_drops, elapsed_s),
            "network.tx.drops": per_second(now.tx_drops, before.tx_drops, elapsed_s),
        }
    )
