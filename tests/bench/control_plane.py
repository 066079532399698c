"""Parts B and C: what Taskvisor itself costs, on a simulated host, where a guest is a few small files.

The instances pile up. When a thousand are on the host, one with few is started beside it, and the two are asked in turns: a
machine that does other things as well is not the same a minute later.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count

from tests.bench.cost import Memory, cpu_s_of, memory_of
from tests.bench.host import BenchHost, running_host
from tests.bench.producer import Producer, Request, Run
from tests.bench.report import progress
from tests.bench.traffic import Traffic, watched_traffic

ALONE = 100
TOGETHER = 300
IN_FLIGHT = 50
CROWD = 1000
TURNS, EACH_TURN = 10, 5
"""On the full host and the new one."""
WARM_UP = 50
WATCHED = 20
BUILD = "instance.build"
ROOM = {"vcpu_ratio": 64, "memory_ratio": 8, "disk_ratio": 64}
"""Settings by which some thousand tiny guests fit onto the simulated host."""


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """How builds went: one at a time, fifty at once, one at a time on a full host and on a new one; and what they cost."""

    alone: Run
    together: Run
    on_full: Run
    on_new: Run
    cpu_s: Mapping[str, float]
    """Per build of those at once, by program."""
    memory: Mapping[str, Memory]
    """After those at once, by program."""
    traffic: Traffic
    """Of `WATCHED` builds."""
    step_processes: int
    control_processes: int


def measure_control_plane() -> ControlPlane:
    """NotMeasured when a build fails."""
    progress("B: Redis and a simulated host")
    with _warm_host() as (host, producer, requests):
        progress(f"B: {ALONE} builds, one at a time")
        alone = producer.run(BUILD, _next(requests, ALONE))
        progress(f"B: {TOGETHER} builds, {IN_FLIGHT} in flight")
        together, cpu_s = _together(host, producer, _next(requests, TOGETHER))
        memory = memory_of(host.processes())
        progress(f"C: what goes to Redis in {WATCHED} builds")
        with watched_traffic(host.redis, host.settings.key_prefix) as traffic:
            producer.run(BUILD, _next(requests, WATCHED))
        more = CROWD - host.count_instances()
        progress(f"B: {more} builds more, to fill the host")
        producer.run(BUILD, _next(requests, more), in_flight=IN_FLIGHT)
        on_full, on_new = _in_turns_with_a_new_host(producer, requests)
        return ControlPlane(
            alone=alone,
            together=together,
            on_full=on_full,
            on_new=on_new,
            cpu_s=cpu_s,
            memory=memory,
            traffic=traffic,
            step_processes=host.settings.step_concurrency,
            control_processes=host.settings.control_concurrency,
        )


@contextmanager
def _warm_host() -> Iterator[tuple[BenchHost, Producer, Iterator[Request]]]:
    """A host every process of which has built something, who asks it, and what for."""
    with running_host("simulated", **ROOM) as host, closing(Producer(host.settings.redis_url)) as producer:
        requests = _requests()
        producer.run(BUILD, _next(requests, WARM_UP), in_flight=4)
        yield host, producer, requests


def _in_turns_with_a_new_host(full: Producer, requests: Iterator[Request]) -> tuple[Run, Run]:
    progress("B: a new host beside it")
    with _warm_host() as (_, new, others):
        progress(f"B: {TURNS * EACH_TURN} builds on each, one at a time, in turns")
        turns = [
            (full.run(BUILD, _next(requests, EACH_TURN)), new.run(BUILD, _next(others, EACH_TURN)))
            for _ in range(TURNS)
        ]
    on_full, on_new = zip(*turns, strict=True)
    return Run.of(on_full), Run.of(on_new)


def _together(host: BenchHost, producer: Producer, requests: list[Request]) -> tuple[Run, Mapping[str, float]]:
    before = cpu_s_of(host.processes())
    run = producer.run(BUILD, requests, in_flight=IN_FLIGHT)
    after = cpu_s_of(host.processes())
    return run, {name: (after[name] - before[name]) / len(requests) for name in after}


def _requests() -> Iterator[Request]:
    flavor = {"vcpus": 1, "memory_mib": 16, "disk_gib": 1}
    for number in count(1):
        yield {"name": f"guest-{number}", "image": "simulated://debian?virtual_gib=1", "flavor": flavor}


def _next(requests: Iterator[Request], how_many: int) -> list[Request]:
    return [next(requests) for _ in range(how_many)]
