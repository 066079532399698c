"""What a placement costs: the look at the fleet, the decision and the claim, in fleets of 100, 1,000 and 10,000 hosts.

`python -m tests.bench.placement [hosts ...]`; part of `make bench`. A Redis of its own, simulated hosts' records in it, real
rules, real claims. One placer alone tells what a decision takes; eight processes at once tell how many a second there can be,
each seeing what the others have claimed. First looks, which read the whole fleet, are told apart: a process has one in its life.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from types import SimpleNamespace
from typing import cast

from tasks.placing import place
from tasks.store import Store
from taskvisor.compute.placement import Ask, Placer
from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.placement import Explanation
from taskvisor.model.records import Claim, Resources
from taskvisor.state.admission import Admission
from taskvisor.state.connection import open_redis
from taskvisor.state.fleet_view import FleetView
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.writing import Writer
from tests.bench.report import Row, p50, percentile, progress, table
from tests.fixtures.redis_servers import RedisServer
from tests.support.records import instance, inventory, operation

FLEETS = (100, 1_000, 10_000)
AIMS_S = {1_000: 0.005, 10_000: 0.025}
"""Of the median decision, with its claim."""
ALONE, PLACERS, EACH = 200, 8, 50
KEYS = Keys("bench:")
GUEST = Resources(vcpus=1, memory_mib=256, disk_gib=1)


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Seconds of single decisions, and how many there were in a second with eight placers. `cpu_s`: of the placer, for each of
    those alone; on a machine with other work it tells more than the time that went by.
    """

    hosts: int
    first_s: float
    alone_s: Sequence[float]
    cpu_s: float
    together_s: Sequence[float]
    per_s: float


class Placing:
    """One process that places, with no more of a store than that takes."""

    def __init__(self, url: str) -> None:
        self.client = open_redis(url, timeout_s=60)
        writer = Writer(keys=KEYS, operation_keep_s=3600, events_kept=1000, outcome_for=lambda *_: None)
        self._admission = Admission(self.client, writer)
        some = SimpleNamespace(hosts=Hosts(self.client, KEYS), fleet=FleetView(self.client, KEYS))
        self._store = cast(Store, some)
        self._placer = Placer()

    def place(self, operation_id: str) -> HostName:
        """A guest is placed, and claims its room. It has no ports: those are allocated before."""

        def claiming(claim: Claim, why: Explanation) -> Operation:
            guest = instance(operation_id, operation_id, host=claim.host, ports=())
            accepted = operation(operation_id, guest, placement=why.rows, choice=why.choice)
            self._admission.admit_build(accepted, guest, claim)
            return accepted

        instance_id = instance_id_for(OperationId(operation_id))
        return place(self._store, self._placer, Ask(resources=GUEST), instance_id, claiming).host


def measure_placements(fleets: Sequence[int] = FLEETS) -> list[Placements]:
    """A fleet after the other, each in a Redis of its own."""
    return [_measured(hosts) for hosts in fleets]


def _measured(hosts: int) -> Placements:
    progress(f"placement: {hosts} hosts")
    with TemporaryDirectory(prefix="tvt-bench-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            url = server.url(0)
            _report_all(url, hosts)
            return _measured_on(url, hosts)
        finally:
            server.stop()


def _report_all(url: str, hosts: int) -> None:
    with closing(open_redis(url, timeout_s=60)) as client:
        fleet = Hosts(client, KEYS)
        for number in range(hosts):
            name = HostName(f"host{number:05}")
            fleet.write_inventory(name, inventory(vcpus=64, memory_mib=65_536 + 256 * (number % 97), disk_gib=2000))
            fleet.note_alive(name, "first", keep_s=3600)


def _measured_on(url: str, hosts: int) -> Placements:
    placing = Placing(url)
    first_s = _timed(placing, "first")
    cpu_began = time.process_time()
    alone_s = [_timed(placing, f"alone-{number}") for number in range(ALONE)]
    cpu_s = (time.process_time() - cpu_began) / ALONE
    placing.client.close()
    together_s, wall_s = _together(url)
    return Placements(
        hosts=hosts,
        first_s=first_s,
        alone_s=alone_s,
        cpu_s=cpu_s,
        together_s=together_s,
        per_s=len(together_s) / wall_s,
    )


def _timed(placing: Placing, operation_id: str) -> float:
    began = time.perf_counter()
    placing.place(operation_id)
    return time.perf_counter() - began


def _together(url: str) -> tuple[list[float], float]:
    """The seconds of each decision of eight processes, and those that all of them took from when all were ready."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(PLACERS + 1), context.Queue()
    children = [
        context.Process(target=_place_many, args=(url, number, ready, told), daemon=True) for number in range(PLACERS)
    ]
    for child in children:
        child.start()
    ready.wait(timeout=300)
    began = time.perf_counter()
    seconds = [one for _ in children for one in told.get(timeout=600)]
    wall_s = time.perf_counter() - began
    for child in children:
        child.join(timeout=60)
    return seconds, wall_s


def _place_many(url: str, number: int, ready: Barrier, told: "Queue[list[float]]") -> None:
    placing = Placing(url)
    placing.place(f"first-{number}")
    ready.wait(timeout=300)
    told.put([_timed(placing, f"together-{number}-{turn}") for turn in range(EACH)])


def table_of_placements(measured: Sequence[Placements]) -> str:
    rows = [row for one in measured for row in _rows(one)]
    return table(f"C. Placement with its claim: {ALONE} alone, then {PLACERS} placers at once", rows)


def _rows(one: Placements) -> tuple[Row, ...]:
    aim_s, median_s = AIMS_S.get(one.hosts), p50(one.alone_s)
    return (
        Row(
            what=f"{one.hosts} hosts, p50",
            value=_ms(median_s),
            aim=f"at most {_ms(aim_s)}" if aim_s else "",
            met=median_s <= aim_s if aim_s else None,
        ),
        Row(what=f"{one.hosts} hosts, p95", value=_ms(percentile(one.alone_s, 95))),
        Row(what=f"{one.hosts} hosts, CPU of the placer", value=_ms(one.cpu_s)),
        Row(what=f"{one.hosts} hosts, first of a process", value=_ms(one.first_s)),
        Row(what=f"{one.hosts} hosts, {PLACERS} placers", value=f"{one.per_s:.0f} decisions/s"),
        Row(what=f"{one.hosts} hosts, {PLACERS} placers, p50", value=_ms(p50(one.together_s))),
        Row(what=f"{one.hosts} hosts, {PLACERS} placers, p95", value=_ms(percentile(one.together_s, 95))),
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    print(table_of_placements(measure_placements([int(word) for word in sys.argv[1:]] or FLEETS)))
