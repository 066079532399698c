"""net/links/counters.py: the kernel's counters of interfaces that lead out of the host."""

from pathlib import Path

import pytest

from net.links.counters import read_outward_counters
from taskvisor.model.errors import CannotAsk
from taskvisor.model.measured import TrafficCounters

COUNTERS = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9999 99 0 0 0 0 0 0 9999 99 0 0 0 0 0 0
  eth0:    1000     10    0    1    0     0          0         0     2000     20    0    2    0     0       0          0
  eth1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
 tap-1: 7777 77 0 0 0 0 0 0 7777 77 0 0 0 0 0 0
"""


@pytest.fixture
def links(tmp_path: Path) -> Path:
    for name, is_device in (("lo", False), ("eth0", True), ("eth1", True), ("tap-1", False)):
        (tmp_path / "net" / name / ("device" if is_device else "")).mkdir(parents=True)
    return tmp_path / "net"


def test_interfaces_with_a_device_are_counted_and_no_others(links: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(COUNTERS)

    assert read_outward_counters(tmp_path / "dev", links) == TrafficCounters(
        rx_bytes=1001, rx_packets=12, rx_drops=5, tx_bytes=2009, tx_packets=30, tx_drops=14
    )


def test_a_host_from_which_nothing_leads_has_none(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(COUNTERS)

    assert read_outward_counters(tmp_path / "dev", tmp_path / "none") is None


def test_counters_that_cannot_be_read_are_not_zero(tmp_path: Path) -> None:
    with pytest.raises(CannotAsk, match="cannot read the counters"):
        read_outward_counters(tmp_path / "none")


def test_this_machine_tells_its_own() -> None:
    counters = read_outward_counters()

    assert counters is None or counters.rx_bytes >= 0
