"""What the kernel has counted of the interfaces that lead out of this host: those with a device behind them.

Links of guests, bridges, bonds and VLANs have none: what goes over them goes over one of these, or never leaves the host.
https://docs.kernel.org/networking/statistics.html
"""

from pathlib import Path

from taskvisor.model.errors import CannotAsk
from taskvisor.model.measured import TrafficCounters

COUNTERS = Path("/proc/thread-self/net/dev")
LINKS = Path("/sys/class/net")
RX_BYTES, RX_PACKETS, RX_DROPS, TX_BYTES, TX_PACKETS, TX_DROPS = 0, 1, 3, 8, 9, 11
"""Columns of /proc/net/dev, after the interface's name."""


def read_outward_counters(counters: Path = COUNTERS, links: Path = LINKS) -> TrafficCounters | None:
    """Those of all such interfaces together; None when there is none. CannotAsk when the kernel's files can't be read."""
    try:
        lines = counters.read_text().splitlines()[2:]
        named = [line.partition(":") for line in lines]
        outward = [figures.split() for name, _, figures in named if (links / name.strip() / "device").exists()]
    except OSError as error:
        raise CannotAsk(f"cannot read the counters of this host's interfaces: {error}") from error
    if not outward:
        return None

    def summed(column: int) -> int:
        return sum(int(figures[column]) for figures in outward)

    return TrafficCounters(
        rx_bytes=summed(RX_BYTES),
        rx_packets=summed(RX_PACKETS),
        rx_drops=summed(RX_DROPS),
        tx_bytes=summed(TX_BYTES),
        tx_packets=summed(TX_PACKETS),
        tx_drops=summed(TX_DROPS),
    )
