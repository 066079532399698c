"""`python -m tests.bench.tracker`: what a host's look at itself costs with 500 guests, simulated and in libvirt's test driver.

The look is that of `host.track`: hypervisor, disks, image cache, 500 records of a real Redis, and the write. Told by the clock
and of this process' CPU: on a machine that does other things too, the first measures those as well.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import libvirt
import structlog

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.state.codec import encode
from tests.bench.report import Row, milliseconds, p50, percentile, progress, table
from tests.fixtures.redis_servers import RedisServer
from tests.support.fleet import KEYS, Fleet
from virt.lookup import list_uses

GUESTS = 500
ROUNDS = 15
AIM_S = 1.0
H1 = HostName("h1")


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of each round, by the clock and of the CPU."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]


def main() -> int:
    """Prints the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="taskvisor-bench-") as directory:
        print(tracker_table(Path(directory)))
    return 0


def tracker_table(directory: Path) -> str:
    """What a look costs, with the guests there."""
    redis = RedisServer(directory / "redis")
    with contextlib.ExitStack() as opened:
        opened.callback(redis.stop)
        redis.start()
        fleet = Fleet(redis.url(), directory / "fleet")
        opened.callback(fleet.close)
        progress(f"{GUESTS} simulated guests are made")
        ensure_guests(fleet)
        report = fleet.hosts[H1].report
        looks = measured(report.track)
        written = len(str(fleet.client.hget(KEYS.host(H1), "inventory")))
    progress(f"{GUESTS} domains of libvirt's test driver are made")
    with test_domains() as connection:
        asked = measured(lambda: list_uses(connection))
    rows = [
        *_rows(f"host.track, {GUESTS} simulated guests", looks, AIM_S),
        *_rows(f"what {GUESTS} domains have, libvirt's test driver", asked, AIM_S),
        Row(what="inventory in Redis", value=f"{written} bytes"),
    ]
    return table("A host looks at itself", rows)


def measured(look: Callable[[], object]) -> Times:
    """Once to warm up, then so many rounds."""
    look()
    wall_s, cpu_s = [], []
    for _ in range(ROUNDS):
        began, cpu_began = time.perf_counter(), time.process_time()
        look()
        wall_s.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - cpu_began)
    return Times(wall_s=tuple(wall_s), cpu_s=tuple(cpu_s))


def ensure_guests(fleet: Fleet) -> None:
    """One guest is built; the others are copies of its record and its domain, under ids of their own."""
    fleet.build("guest")
    first = fleet.instance("guest")
    xml = str(fleet.read("build-guest").facts["render_xml"]["xml"])
    hypervisor = fleet.hosts[H1].ports.hypervisor
    for number in range(1, GUESTS):
        other = InstanceId(str(UUID(int=number << 80)))
        copy = replace(first, id=other, name=f"guest-{number}", ports=())
        fleet.client.set(KEYS.instance(other), encode(copy))
        fleet.client.sadd(KEYS.instances_on(H1), other)
        fleet.client.sadd(KEYS.instances, other)
        theirs = xml.replace(first.id, other).replace(f"instance-{first.id[:13]}", f"instance-{other[:13]}")
        hypervisor.ensure_defined(other, theirs)


@contextlib.contextmanager
def test_domains() -> Iterator[libvirt.virConnect]:
    """A connection to libvirt's test driver with the domains, which run."""
    connection = libvirt.open("test:///default")
    try:
        for number in range(GUESTS - len(connection.listAllDomains())):
            connection.createXML(
                f"<domain type='test'><name>d{number}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>"
                "<os><type>hvm</type></os></domain>"
            )
        yield connection
    finally:
        connection.close()


def _rows(what: str, times: Times, aim_s: float) -> Iterator[Row]:
    worst_s = percentile(times.wall_s, 95)
    yield Row(
        what=f"{what}: p50, p95",
        value=f"{milliseconds(p50(times.wall_s))}, {milliseconds(worst_s)}",
        aim=f"at most {milliseconds(aim_s)}",
        met=worst_s <= aim_s,
    )
    yield Row(what="  of that CPU of the process, p50", value=milliseconds(p50(times.cpu_s)))


if __name__ == "__main__":
    sys.exit(main())
