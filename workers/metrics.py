"""What Prometheus is told: the store's counters, and what is there now, read when somebody asks.

Nothing is kept between two looks, so every control node tells the same of the whole fleet, and a restart resets nothing.
Invariant: a look ends within seconds whatever Redis does. When it is silent, `taskvisor_store_up 0` is all that is told:
a number that cannot be known is never given as 0.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import redis
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.flows import ALL_FLOWS
from taskvisor.model.errors import CannotAsk, UnreadableRecord
from taskvisor.model.ids import HostName
from taskvisor.model.measured import Sample
from taskvisor.model.records import Host, Resources
from taskvisor.model.states import Phase
from taskvisor.model.sweep_finding import SweepFinding
from taskvisor.model.tick import DONE, Punctuality, Run, punctuality_for
from taskvisor.settings import Settings
from taskvisor.state.catalog import Catalog
from taskvisor.state.census import Census
from taskvisor.state.connection import open_redis
from taskvisor.state.counters import CounterName, Counters, counts_in
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.series import Series
from taskvisor.state.ticks import Ticks
from taskvisor.timetable import BY_TASK, LATE_PERIODS, ROWS, Where, period_s_of
from workers.histogram_metrics import histogram_families
from workers.queue_lengths import list_queue_lengths

log = structlog.get_logger(__name__)

CALL_LIMIT_S = 1.0
"""For one call to Redis; see `open_redis` for how it adds up. Prometheus itself waits 10 s, unless told otherwise."""
LOOK_LIMIT_S = 5.0
"""No further call is begun when a look has taken so long."""
MEASURED_PERIODS = 3
"""What was measured more periods ago than this is not told."""
MIB, GIB = 1024**2, 1024**3

STORE_UP = ("taskvisor_store_up", "1 when Redis answered; else 0, and nothing else is told.")


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """A metric that says how much there is of something now."""

    name: str
    sentence: str
    labels: tuple[str, ...] = ()


UNSETTLED = Gauge(
    name="taskvisor_operations_unsettled", sentence="Operations that have not ended, by phase.", labels=("phase",)
)
STUCK = Gauge(name="taskvisor_operations_stuck", sentence="Operations that are STUCK now: a person must look.")
OLDEST = Gauge(
    name="taskvisor_operations_oldest_age_seconds",
    sentence="Since the oldest operation that has not ended was asked; 0 when there is none.",
)
LONGEST = Gauge(
    name="taskvisor_operations_longest_pause_seconds",
    sentence="Since the operation that has been without progress for the longest made some; 0 when there is none.",
)
WAITING = Gauge(name="taskvisor_queue_messages", sentence="Messages that wait in a queue.", labels=("queue",))
IN_FLIGHT = Gauge(
    name="taskvisor_queue_in_flight_messages",
    sentence="Messages of a queue that a host has taken and not acknowledged.",
    labels=("queue", "host"),
)
DEAD = Gauge(
    name="taskvisor_queue_dead_messages",
    sentence="Messages in a queue's dead-letter list, which keeps the latest 1000.",
    labels=("queue",),
)
HOSTS = Gauge(name="taskvisor_hosts", sentence="Hosts that ever reported, by state.", labels=("state",))
HOST_UP = Gauge(
    name="taskvisor_host_up", sentence="1 when the host's steps node was heard of lately, else 0.", labels=("host",)
)
TAKING = Gauge(
    name="taskvisor_host_takes_requests",
    sentence="1 when the host's control node was heard of lately, else 0.",
    labels=("host",),
)
HEARS = Gauge(
    name="taskvisor_host_hears_guests",
    sentence="1 when the host's control node hears events of its guests, 0 when libvirt or the listener is away.",
    labels=("host",),
)
INSTANCES = Gauge(name="taskvisor_host_instances", sentence="Instances with a claim on the host.", labels=("host",))
CLAIMED = Gauge(name="taskvisor_host_claimed", sentence="What is claimed on the host: {}.", labels=("host",))
CAPACITY = Gauge(
    name="taskvisor_host_capacity",
    sentence="What may be claimed on the host in all, as it last reported: {}.",
    labels=("host",),
)
TICK_AGE = Gauge(
    name="taskvisor_tick_age_seconds",
    sentence="Since a periodic task last began on a host; of those that are done once for the fleet, wherever that was.",
    labels=("task", "host"),
)
TICKS_LATE = Gauge(
    name="taskvisor_ticks_late",
    sentence="On how many live hosts a periodic task is late by three periods, by this node's settings, or was never done.",
    labels=("task",),
)
TICK_TOOK = Gauge(
    name="taskvisor_tick_last_duration_seconds",
    sentence="How long the last run of a periodic task took on a host.",
    labels=("task", "host"),
)
TICK_FAILED = Gauge(
    name="taskvisor_tick_last_failed",
    sentence="1 when the last run of a periodic task on a host failed, else 0.",
    labels=("task", "host"),
)
HOST_MEASURED = Gauge(
    name="taskvisor_host_measured",
    sentence="What a host measured last of itself, by metric; the units are those of `taskvisor monitor`.",
    labels=("host", "metric"),
)
INSTANCE_MEASURED = Gauge(
    name="taskvisor_instance_measured",
    sentence="Likewise of each instance, with TASKVISOR_METRICS_OF_INSTANCES.",
    labels=("instance", "name", "host", "metric"),
)
AMOUNTS: tuple[tuple[str, str, Callable[[Resources], int]], ...] = (
    ("vcpus", "virtual CPUs", lambda amount: amount.vcpus),
    ("memory_bytes", "memory", lambda amount: amount.memory_mib * MIB),
    ("disk_bytes", "disk", lambda amount: amount.disk_gib * GIB),
)
"""Each kind of resource in Prometheus' base units."""


class StoreCollector(Collector):
    """Reads the store each time it is asked. Safe in threads; one look at a time."""

    def __init__(
        self,
        client: "redis.Redis",
        keys: Keys,
        now: Callable[[], float] = time.time,
        *,
        periods_s: Mapping[str, float] = MappingProxyType({}),
        measured_within_s: float = 180.0,
        of_instances: bool = False,
    ) -> None:
        """`periods_s`: of each periodic task that is on; of others nothing is told. What was measured longer than
        `measured_within_s` ago is not told. `of_instances`: what was measured of those is.
        """
        self._periods_s = periods_s
        self._client = client
        self._now = now
        self._measured_within_s = measured_within_s
        self._of_instances = of_instances
        self._catalog = Catalog(client, keys)
        self._ticks = Ticks(client, keys)
        self._series = Series(client, keys)
        self._counters = Counters(client, keys)
        self._census = Census(client, keys)
        self._hosts = Hosts(client, keys)
        self._alone = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Every family that there is, without numbers: what the registry and the documentation go by."""
        yield GaugeMetricFamily(*STORE_UP)
        yield from (_counter_family(name) for name in CounterName)
        yield from histogram_families({})
        for gauge in (
            UNSETTLED,
            STUCK,
            OLDEST,
            LONGEST,
            WAITING,
            IN_FLIGHT,
            DEAD,
            HOSTS,
            HOST_UP,
            TAKING,
            HEARS,
            INSTANCES,
            TICK_AGE,
            TICKS_LATE,
            TICK_TOOK,
            TICK_FAILED,
            HOST_MEASURED,
            INSTANCE_MEASURED,
        ):
            yield _gauge_family(gauge)
        yield from _amount_families(())

    def collect(self) -> Iterable[Metric]:
        """All that is known now; when Redis is silent or slow, only that."""
        with self._alone:
            try:
                families = self._look()
            except CannotAsk as silence:
                log.warning("metrics_not_read", reason=str(silence))
                return [GaugeMetricFamily(*STORE_UP, value=0)]
        return [GaugeMetricFamily(*STORE_UP, value=1), *families]

    def _look(self) -> list[Metric]:
        deadline, families = time.monotonic() + LOOK_LIMIT_S, list[Metric]()
        for part in (
            self._read_counters,
            self._read_operations,
            self._read_hosts,
            self._read_ticks,
            self._read_measured,
        ):
            if time.monotonic() > deadline:
                raise CannotAsk(f"Redis was asked for metrics for {LOOK_LIMIT_S} s and has not told all of them")
            try:
                families.extend(part())
            except UnreadableRecord as problem:
                log.warning("metrics_left_out", reason=str(problem))
        return families

    def _read_counters(self) -> Iterator[Metric]:
        fields = self._counters.read()
        found = counts_in(fields)
        for name in CounterName:
            family = _counter_family(name)
            totals = dict.fromkeys(_labels_to_begin_with(name), 0)
            totals.update({count.labels: count.total for count in found if count.name is name})
            for labels, total in sorted(totals.items()):
                family.add_metric(labels, total)
            yield family
        yield from histogram_families(fields)

    def _read_operations(self) -> Iterator[Metric]:
        census, now = self._census.read_operations(), self._now()
        known = {phase.value: 0 for phase in Phase if not phase.settled}
        yield _gauge_family(UNSETTLED, {(phase,): number for phase, number in {**known, **census.unsettled}.items()})
        yield _gauge_family(STUCK, {(): census.stuck})
        for gauge, since in ((OLDEST, census.oldest_created_at), (LONGEST, census.longest_updated_at)):
            yield _gauge_family(gauge, {(): 0.0 if since is None else max(0.0, now - since)})

    def _read_hosts(self) -> Iterator[Metric]:
        hosts, silent = self._hosts.list_hosts(), self._hosts.list_not_taking()
        up = sum(host.up for host in hosts)
        yield _gauge_family(HOSTS, {("up",): up, ("down",): len(hosts) - up})
        yield _gauge_family(HOST_UP, {(host.name,): host.up for host in hosts})
        yield _gauge_family(TAKING, {(host.name,): host.name not in silent for host in hosts})
        yield _gauge_family(HEARS, {(name,): hears for name, hears in self._hosts.list_listening()})
        yield _gauge_family(INSTANCES, {(host.name,): host.instances for host in hosts})
        yield from _amount_families(hosts)
        queues = list_queue_lengths(self._client, [host.name for host in hosts])
        yield _gauge_family(WAITING, {(queue.queue,): queue.waiting for queue in queues})
        yield _gauge_family(DEAD, {(queue.queue,): queue.dead for queue in queues})
        taken = ((queue.queue, host, number) for queue in queues for host, number in queue.in_flight)
        yield _gauge_family(IN_FLIGHT, {(queue, host): number for queue, host, number in taken})

    def _read_ticks(self) -> Iterator[Metric]:
        hosts, now = [host for host, alive in self._hosts.list_alive() if alive], self._now()
        runs = _told_of(self._ticks.list_last(hosts), self._periods_s)
        late: dict[tuple[str, ...], float] = {
            (task,): self._late_of(task, runs, hosts, now) for task in self._periods_s
        }
        yield _gauge_family(TICKS_LATE, late)
        yield _gauge_family(TICK_AGE, {(run.task, run.host): max(0.0, now - run.began_at) for run in runs})
        yield _gauge_family(TICK_TOOK, {(run.task, run.host): run.took_s for run in runs})
        yield _gauge_family(TICK_FAILED, {(run.task, run.host): run.outcome != DONE for run in runs})

    def _late_of(self, task: str, runs: Sequence[Run], hosts: Sequence[HostName], now: float) -> int:
        """On how many of the hosts; of a task of the fleet, 1 or 0."""
        there = {run.host: run for run in runs if run.task == task}
        last = (
            [max(there.values(), key=_began_at, default=None)]
            if _is_of_fleet(task)
            else [there.get(host) for host in hosts]
        )
        period_s = self._periods_s[task]
        states = [punctuality_for(run, period_s=period_s, late_periods=LATE_PERIODS, now=now) for run in last]
        return sum(state in (Punctuality.LATE, Punctuality.NEVER) for state in states)

    def _read_measured(self) -> Iterator[Metric]:
        """What is old is told no more: a host that has fallen silent does not stay as busy as it was."""
        since = self._now() - self._measured_within_s
        hosts = self._series.list_latest_of_hosts([host for host, _ in self._hosts.list_alive()])
        told = ((host, sample) for host, sample in hosts.items() if sample.at >= since)
        yield _gauge_family(
            HOST_MEASURED, {(host, metric): value for host, one in told for metric, value in _known_in(one)}
        )
        there = {instance.id: instance for instance in self._catalog.list_instances()} if self._of_instances else {}
        samples = self._series.list_latest_of_instances(list(there))
        yield _gauge_family(
            INSTANCE_MEASURED,
            {
                (one, there[one].name, there[one].host, metric): value
                for one, sample in samples.items()
                if sample.at >= since
                for metric, value in _known_in(sample)
            },
        )


def collector_for(settings: Settings) -> StoreCollector:
    """The collector of this node, with a connection of its own: a hung look costs nobody else anything."""
    client = open_redis(settings.redis_url, timeout_s=min(CALL_LIMIT_S, settings.redis_timeout_s))
    return StoreCollector(
        client,
        Keys(settings.key_prefix),
        periods_s={row.task: period_s for row in ROWS if (period_s := period_s_of(row, settings)) is not None},
        measured_within_s=MEASURED_PERIODS * settings.monitor_s,
        of_instances=settings.metrics_of_instances,
    )


def metrics_table() -> str:
    """The table of all metrics for docs/monitoring.md."""
    collector = StoreCollector(redis.Redis(), Keys(""))  # describes itself without asking Redis
    lines = ["| metric | labels | says |", "|---|---|---|"]
    for family in collector.describe():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(getattr(family, "_labelnames", ())) or "-"
        lines.append(f"| `{name}` | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def _labels_to_begin_with(name: CounterName) -> Iterable[tuple[str, ...]]:
    """What is told as 0 before it first happens: Prometheus sees no increase in a series that begins at 1."""
    if name is CounterName.OPERATIONS:
        flows, ends = (flow.name for flow in ALL_FLOWS), (phase.value for phase in Phase if phase.settled)
        return product(flows, ends)
    if name is CounterName.SWEEP_FINDINGS:
        return [(kind.value,) for kind in SweepFinding]
    return [] if name.labels else [()]


def _told_of(runs: Sequence[Run], periods_s: Mapping[str, float]) -> tuple[Run, ...]:
    """Those of tasks that are on; of what is done once for the fleet, the last one, wherever it was."""
    of_hosts = tuple(run for run in runs if run.task in periods_s and not _is_of_fleet(run.task))
    latest = {run.task: run for run in sorted(runs, key=_began_at) if run.task in periods_s and _is_of_fleet(run.task)}
    return (*of_hosts, *latest.values())


def _is_of_fleet(task: str) -> bool:
    return BY_TASK[task].where is Where.FLEET


def _began_at(run: Run) -> float:
    return run.began_at


def _known_in(sample: Sample) -> Iterator[tuple[str, float]]:
    return ((metric, value) for metric, value in sample.values.items() if value is not None)


def _counter_family(name: CounterName) -> CounterMetricFamily:
    return CounterMetricFamily(f"taskvisor_{name.value}", name.sentence, labels=name.labels)


def _gauge_family(gauge: Gauge, values: Mapping[tuple[str, ...], float] | None = None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(gauge.name, gauge.sentence, labels=gauge.labels)
    for labels, value in (values or {}).items():
        family.add_metric(labels, value)
    return family


def _amount_families(hosts: Iterable[Host]) -> Iterator[Metric]:
    there = tuple(hosts)
    limits = {host.name: host.inventory.limits for host in there if host.inventory is not None}
    for unit, words, amount_in in AMOUNTS:
        yield _gauge_family(_of(CLAIMED, unit, words), {(host.name,): amount_in(host.used) for host in there})
        yield _gauge_family(_of(CAPACITY, unit, words), {(name,): amount_in(limit) for name, limit in limits.items()})


def _of(gauge: Gauge, unit: str, words: str) -> Gauge:
    return Gauge(name=f"{gauge.name}_{unit}", sentence=gauge.sentence.format(words), labels=gauge.labels)


if __name__ == "__main__":
    print(metrics_table(), end="")
