"""Part D: ticks. A host with 500 domains measures itself, and a tick is sent to 1,000 hosts.

The domains are measured twice: 500 simulated guests that run, and 500 real domains of a private libvirtd that are off, for no
machine that tests runs 500 guests. Of a guest that runs libvirt asks its QEMU for its disks and its balloon, about a
millisecond each, which is not in these figures.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import libvirt
import structlog

from beat_schedule import SLICES
from tasks.monitoring import HostMonitor
from taskvisor.compute.monitors import OURS, load_monitors
from taskvisor.flow.ports import Hypervisor
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.state.series import Series
from tests.bench.report import Row, milliseconds, p50, progress, table
from tests.fixtures.machine import ROOT, run_or_fail
from tests.fixtures.redis_servers import RedisServer
from tests.support.fleet import KEYS, Fleet
from tests.tasks.edges import open_edge_app
from virt.domain.owner import NAMESPACE
from virt.hypervisor import LibvirtHypervisor
from virt.simulated import SimulatedHypervisor

DOMAINS, HOSTS, TURNS = 500, 1000, 7
MONITOR_AIM_S = 1.0
LIBVIRTD, LIBVIRTD_LIMIT_S = ROOT / "scripts" / "libvirtd.sh", 180.0
H1 = HostName("h1")
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>16384</memory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>"""


@dataclass(frozen=True, kw_only=True)
class TickTimes:
    """Seconds. `fan_out_s` is that of all slices of a period together, `slice_s` that of the longest of them."""

    simulated_s: tuple[float, ...]
    real_s: tuple[float, ...]
    fan_out_s: float
    slice_s: float
    host_bytes: int
    instance_bytes: int


def measure_ticks() -> TickTimes:
    """Nothing is left of it."""
    progress(f"D: {DOMAINS} domains are measured, and {HOSTS} hosts are sent a tick")
    with _open_fleet() as (fleet, redis_url):
        guests = tuple(InstanceId(str(uuid5(NAMESPACE_OID, f"bench {number}"))) for number in range(DOMAINS))
        fleet.client.sadd(KEYS.instances_on(H1), *guests)
        simulated = fleet.hosts[H1].ports.hypervisor
        assert isinstance(simulated, SimulatedHypervisor)
        for number, guest in enumerate(guests):
            simulated.ensure_defined(guest, _owned(guest, f"bench-{number}"))
            simulated.ensure_running(guest)
        simulated_s = _timed(_monitor_of(fleet, simulated).run)
        host_bytes, instance_bytes = _memory_of(fleet, guests[0])
        with _defined_domains(guests) as uri:
            real_s = _timed(_monitor_of(fleet, LibvirtHypervisor(uri, virt_type="qemu")).run)
        slices_s = _fan_out(fleet, redis_url)
    return TickTimes(
        simulated_s=simulated_s,
        real_s=real_s,
        fan_out_s=sum(slices_s),
        slice_s=max(slices_s),
        host_bytes=host_bytes,
        instance_bytes=instance_bytes,
    )


def table_of_ticks(times: TickTimes) -> str:
    """As the other parts are told."""
    monitors = (
        (f"{DOMAINS} simulated guests that run", times.simulated_s),
        (f"{DOMAINS} domains of libvirt's, off", times.real_s),
    )
    rows = [
        *(
            Row(
                what=f"monitor tick, {what}, p50",
                value=milliseconds(p50(taken_s)),
                aim=f"at most {milliseconds(MONITOR_AIM_S)}",
                met=p50(taken_s) <= MONITOR_AIM_S,
            )
            for what, taken_s in monitors
        ),
        Row(what=f"a tick sent to {HOSTS} hosts, all {SLICES} slices", value=milliseconds(times.fan_out_s)),
        Row(what="  the longest slice", value=milliseconds(times.slice_s)),
        Row(what="series in Redis, a host, 30 samples", value=f"{times.host_bytes} B"),
        Row(what="series in Redis, an instance, 30 samples", value=f"{times.instance_bytes} B"),
    ]
    return table("D. Ticks", rows)


@contextmanager
def _open_fleet() -> Iterator[tuple[Fleet, str]]:
    """A fleet of one host, and the URL of its Redis."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="tvb-") as directory:
        server = RedisServer(Path(directory) / "redis")
        server.start()
        try:
            fleet = Fleet(server.url(), Path(directory) / "fleet")
            try:
                yield fleet, server.url()
            finally:
                fleet.close()
        finally:
            server.stop()


def _monitor_of(fleet: Fleet, hypervisor: Hypervisor) -> HostMonitor:
    return HostMonitor(
        host=H1,
        ports=replace(fleet.hosts[H1].ports, hypervisor=hypervisor),
        catalog=fleet.store.catalog,
        series=Series(fleet.client, KEYS),
        counters=fleet.store.counters,
        monitors=load_monitors(OURS),
        now=time.time,
        steady=time.monotonic,
    )


def _timed(run: Callable[[], object]) -> tuple[float, ...]:
    """After one that warms up."""
    taken_s = []
    for _ in range(TURNS + 1):
        began = time.monotonic()
        run()
        taken_s.append(time.monotonic() - began)
    return tuple(taken_s[1:])


def _memory_of(fleet: Fleet, guest: InstanceId) -> tuple[int, int]:
    """What full series take."""
    monitor = _monitor_of(fleet, fleet.hosts[H1].ports.hypervisor)
    for _ in range(30):
        monitor.run()
    keys = (KEYS.series_of_host(H1), KEYS.series_of_instance(guest))
    host_bytes, instance_bytes = (int(fleet.client.memory_usage(key, samples=0) or 0) for key in keys)
    return host_bytes, instance_bytes


def _fan_out(fleet: Fleet, redis_url: str) -> list[float]:
    """Seconds of each slice."""
    names = [f"kvm{number:04}" for number in range(HOSTS)]
    fleet.client.sadd(KEYS.hosts, *names)
    fleet.client.mset({KEYS.alive(HostName(name)): "i" for name in names})
    with open_edge_app(redis_url, fleet) as app:
        app.tasks["host.fan_out"]("host.track", 60.0)  # connects
        slices_s = []
        for _ in range(SLICES):
            began = time.monotonic()
            app.tasks["host.fan_out"]("host.monitor", 60.0)
            slices_s.append(time.monotonic() - began)
    return slices_s


@contextmanager
def _defined_domains(guests: tuple[InstanceId, ...]) -> Iterator[str]:
    """The URI of a libvirtd that has them, off. It is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tvb-v") as directory:
        try:
            cache = ROOT / ".cache" / "libvirt"
            said = run_or_fail([LIBVIRTD, "start", directory, "--cache", cache], limit_s=LIBVIRTD_LIMIT_S)
            uri = dict(line.partition("=")[::2] for line in said.splitlines())["URI"]
            connection = libvirt.open(uri)
            for number, guest in enumerate(guests):
                connection.defineXML(DOMAIN.format(name=f"bench-{number}", uuid=guest))
            connection.close()
            yield uri
        finally:
            run_or_fail([LIBVIRTD, "stop", directory, "--guests"], limit_s=LIBVIRTD_LIMIT_S)


def _owned(guest: InstanceId, name: str) -> str:
    """A simulated guest's XML."""
    owner = f"<tv:instance xmlns:tv='{NAMESPACE}' id='{guest}'/>"
    return DOMAIN.format(name=name, uuid=guest).replace("<vcpu>", f"<metadata>{owner}</metadata><vcpu>")


if __name__ == "__main__":
    print(table_of_ticks(measure_ticks()), end="")
