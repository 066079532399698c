"""Parts B and C: what Taskvisor itself costs, on a simulated host, where a guest is a few small files.

The instances pile up: what is asked of an empty host first is asked again when a thousand are on it.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
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
IN_A_CROWD = 50
WATCHED = 20
BUILD = "instance.build"
ROOM = {"vcpu_ratio": 64, "memory_ratio": 8, "disk_ratio": 64}
"""Settings by which some thousand tiny guests fit onto the simulated host."""


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """How builds went: one at a time, fifty at once, one at a time on a full host; and what they cost."""

    alone: Run
    together: Run
    in_a_crowd: Run
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
    with running_host("simulated", **ROOM) as host, closing(Producer(host.settings.redis_url)) as producer:
        requests = _requests()
        producer.run(BUILD, _next(requests, IN_A_CROWD), in_flight=4)  # every process has built one
        progress(f"B: {ALONE} builds, one at a time")
        alone = producer.run(BUILD, _next(requests, ALONE))
        progress(f"B: {TOGETHER} builds, {IN_FLIGHT} in flight")
        together, cpu_s = _together(host, producer, _next(requests, TOGETHER))
        memory = memory_of(host.processes())
        progress(f"C: what goes to Redis in {WATCHED} builds")
        with watched_traffic(host.redis, host.settings.key_prefix) as traffic:
            producer.run(BUILD, _next(requests, WATCHED))
        crowd = CROWD - host.count_instances()
        progress(f"B: {crowd} builds more, to fill the host")
        producer.run(BUILD, _next(requests, crowd), in_flight=IN_FLIGHT)
        progress(f"B: {IN_A_CROWD} builds, one at a time, on a host with {CROWD} instances")
        in_a_crowd = producer.run(BUILD, _next(requests, IN_A_CROWD))
        return ControlPlane(
            alone=alone,
            together=together,
            in_a_crowd=in_a_crowd,
            cpu_s=cpu_s,
            memory=memory,
            traffic=traffic,
            step_processes=host.settings.step_concurrency,
            control_processes=host.settings.control_concurrency,
        )


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
