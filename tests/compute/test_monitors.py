"""What monitors make of two looks at a host: Nova's names and formulas, and nothing that is not known."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from taskvisor.compute.monitors import OURS, GuestLook, Look, Monitor, load_monitors
from taskvisor.compute.monitors.cpu import CpuMonitor
from taskvisor.compute.monitors.disk import DiskMonitor
from taskvisor.compute.monitors.memory import MemoryMonitor
from taskvisor.compute.monitors.network import NetworkMonitor
from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import CpuTimes, DiskCounters, GuestUsage, HostUsage, MemoryAmounts, TrafficCounters
from taskvisor.model.states import PowerState
from tests.fixtures.machine import ROOT

GUEST = InstanceId("00000000-0000-4000-8000-000000000001")
SECOND_NS = 1_000_000_000
QUIET = TrafficCounters(rx_bytes=0, rx_packets=0, rx_drops=0, tx_bytes=0, tx_packets=0, tx_drops=0)


def times(user: int, kernel: int, idle: int, iowait: int) -> CpuTimes:
    return CpuTimes(user_ns=user, kernel_ns=kernel, idle_ns=idle, iowait_ns=iowait)


def look(at_s: float, cpu: CpuTimes | None, traffic: TrafficCounters | None = QUIET) -> Look:
    memory = MemoryAmounts(total_kib=1024 * 1024, free_kib=512 * 1024, buffers_kib=128 * 1024, cached_kib=128 * 1024)
    usage = HostUsage(cpu_mhz=2400, cpu=cpu, memory=memory, guests=())
    return Look(at_s=at_s, usage=usage, disk_total_gib=100, disk_free_gib=25, traffic=traffic)


def guest(at_s: float, **fields: object) -> GuestLook:
    usage = GuestUsage(instance_id=GUEST, power_state=PowerState.RUNNING)
    return GuestLook(at_s=at_s, usage=replace(usage, **fields))  # type: ignore[arg-type]


def test_the_host_has_novas_ten_metrics() -> None:
    before, now = look(0, times(100, 200, 300, 400)), look(10, times(110, 220, 330, 440))

    assert CpuMonitor().host_values(now, before) == {
        "cpu.frequency": 2400,
        "cpu.user.time": 110,
        "cpu.kernel.time": 220,
        "cpu.idle.time": 330,
        "cpu.iowait.time": 440,
        "cpu.user.percent": 0.1,
        "cpu.kernel.percent": 0.2,
        "cpu.idle.percent": 0.3,
        "cpu.iowait.percent": 0.4,
        "cpu.percent": 0.7,
    }
    assert len(CpuMonitor.host_metrics) == 10


@pytest.mark.parametrize(
    "before",
    [None, look(0, None), look(0, times(110, 220, 330, 440)), look(0, times(999, 200, 300, 400))],
    ids=["the first", "not told", "no time", "booted"],
)
def test_no_percentage_is_told_that_is_not_known(before: Look | None) -> None:
    told = CpuMonitor().host_values(look(10, times(110, 220, 330, 440)), before)

    assert sorted(told) == ["cpu.frequency", "cpu.idle.time", "cpu.iowait.time", "cpu.kernel.time", "cpu.user.time"]


def test_a_guest_that_keeps_one_of_two_cpus_busy_uses_half_of_them() -> None:
    before, now = guest(0, cpu_ns=0, vcpus=2), guest(10, cpu_ns=10 * SECOND_NS, vcpus=2)

    assert CpuMonitor().guest_values(now, before) == {"cpu.time": 10 * SECOND_NS, "cpu.usage": 0.5}
    assert CpuMonitor().guest_values(before, now) == {"cpu.time": 0}  # it was started anew
    assert CpuMonitor().guest_values(guest(10), before) == {}  # its QEMU hangs


def test_memory_that_is_used_is_neither_free_nor_buffers_nor_cache() -> None:
    assert MemoryMonitor().host_values(look(0, None), None) == {
        "memory.total": 1024,
        "memory.used": 256,
        "memory.free": 512,
        "memory.percent": 0.25,
    }
    assert MemoryMonitor().guest_values(guest(0, memory_kib=2048, rss_kib=1024), None) == {
        "memory.actual": 2,
        "memory.rss": 1,
    }


def test_disks_are_told_by_what_is_free_and_how_fast_guests_write() -> None:
    def disks(read: int, written: int) -> DiskCounters:
        return DiskCounters(read_bytes=read, read_requests=read, write_bytes=written, write_requests=written)

    assert DiskMonitor().host_values(look(0, None), None) == {"disk.total": 100, "disk.free": 25, "disk.percent": 0.75}
    assert DiskMonitor().guest_values(guest(5, disks=disks(50, 10)), guest(0, disks=disks(0, 0))) == {
        "disk.read.bytes": 10,
        "disk.write.bytes": 2,
        "disk.read.requests": 10,
        "disk.write.requests": 2,
    }


def test_traffic_is_told_by_the_second_and_not_of_one_look() -> None:
    busy = replace(QUIET, rx_bytes=100, tx_packets=50)
    now, before = look(10, None, busy), look(0, None)

    told = NetworkMonitor().host_values(now, before)

    assert (told["network.rx.bytes"], told["network.tx.packets"], told["network.tx.bytes"]) == (10, 5, 0)
    assert NetworkMonitor().host_values(now, None) == {}
    assert NetworkMonitor().host_values(look(10, None, None), before) == {}


def test_ours_are_registered_as_a_strangers_would_be() -> None:
    project = (ROOT / "pyproject.toml").read_text()

    for name, kind in OURS.items():
        assert f'{name} = "{kind.__module__}:{kind.__qualname__}"' in project


def test_they_are_loaded_in_the_order_asked() -> None:
    assert list(load_monitors(["network", "cpu"])) == ["network", "cpu"]


INLET = """
from taskvisor.compute.monitors import Monitor
class Inlet(Monitor):
    host_metrics = {"inlet.temperature": "degrees Celsius"}
    def host_values(self, now, before):
        return {"inlet.temperature": 21.5}
class Twin(Monitor):
    host_metrics = {"cpu.percent": "of 1"}
class Broken(Monitor):
    def __init__(self):
        raise OSError("no sensor")
class Stranger:
    pass
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of somebody else's is installed, with monitors in it."""
    (tmp_path / "acme_monitors.py").write_text(INLET)
    info = tmp_path / "acme_monitors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-monitors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[taskvisor.monitors]\n"
        "inlet = acme_monitors:Inlet\ntwin = acme_monitors:Twin\nbroken = acme_monitors:Broken\n"
        "stranger = acme_monitors:Stranger\nmissing = acme_monitors:Nobody\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("acme_monitors", None)


def test_a_strangers_monitor_is_loaded_by_its_name(distribution: Path) -> None:
    loaded = load_monitors(["cpu", "inlet"])

    assert loaded["inlet"].host_values(look(0, None), None) == {"inlet.temperature": 21.5}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cpu", "cpus"], r"'cpus': there is no such monitor .*known: .*cpu.*inlet.*network"),
        (["broken"], "'broken' .*can't be loaded: OSError.*no sensor"),
        (["missing"], "'missing' .*can't be loaded: AttributeError"),
        (["stranger"], "'stranger' .* is no "),
        (["cpu", "twin"], "'twin' and 'cpu' both tell cpu.percent"),
    ],
)
def test_what_can_not_be_loaded_is_refused_in_words(distribution: Path, names: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        load_monitors(names)


def test_a_stranger_may_not_take_the_name_of_one_of_ours(distribution: Path) -> None:
    points = distribution / "acme_monitors-1.0.dist-info" / "entry_points.txt"
    points.write_text("[taskvisor.monitors]\ncpu = acme_monitors:Inlet\n")

    with pytest.raises(Refused, match=r"'cpu' is the name of one of ours, and of acme_monitors:Inlet"):
        load_monitors(["memory"])


class Ratio(Monitor):
    guest_metrics: ClassVar[Mapping[str, str]] = {"ratio": "of 1"}


def test_a_monitor_may_tell_of_guests_only() -> None:
    assert Ratio().host_values(look(0, None), None) == {}
    assert Ratio().guest_values(guest(0), None) == {}
