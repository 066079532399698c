"""What has happened so often since the store began: a closed list of counters, one field each in one hash.

Invariant: a count never costs work. What belongs to the write of a record is counted in that very transaction
(`Writer.count`), so that the count cannot part from the record; all else is counted beside the work, and lost when Redis is
silent at that moment. Must never know who reads: names and labels are ours, Prometheus' words are `workers/metrics.py`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import redis
import structlog

from taskvisor.model.change import Change
from taskvisor.model.operation import Operation
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

log = structlog.get_logger(__name__)

SEPARATOR = "|"
"""Between a counter's name and its labels: in no flow's, step's or error class's name."""


class CounterName(StrEnum):
    """Every counter: its name, a sentence that says what one more means, and the names of its labels."""

    sentence: str
    labels: tuple[str, ...]

    def __new__(cls, name: str, sentence: str, *labels: str) -> "CounterName":
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        member.labels = labels
        return member

    OPERATIONS = (
        "operations",
        "Operations that came to an end; one that is retried comes to another.",
        "flow",
        "outcome",
    )
    STEP_TRIES = (
        "step_tries",
        "Tries of steps that ended: done, the class of the error, or WorkerLost for a process that died in it.",
        "flow",
        "step",
        "direction",
        "outcome",
    )
    SWEEP_FINDINGS = "sweep_findings", "What the sweep found that should not have needed it.", "kind"
    OPERATIONS_SENT_AGAIN = "operations_sent_again", "Operations that the sweep sent on, for nobody else seemed to."
    OPERATIONS_RESCHEDULED = "operations_rescheduled", "Builds that moved to another host because one had no room."
    MESSAGES_DEAD_LETTERED = "messages_dead_lettered", "Malformed messages moved to a dead-letter list."
    MESSAGES_DROPPED_UNKNOWN_OPERATION = (
        "messages_dropped_unknown_operation",
        "Well-formed step messages for an operation that nobody knows.",
    )
    MESSAGES_DROPPED_UNREADABLE_RECORD = (
        "messages_dropped_unreadable_record",
        "Messages for an operation whose record does not parse, or was written by a newer version.",
    )
    MESSAGES_DROPPED_MALFORMED = (
        "messages_dropped_malformed",
        "Messages whose arguments are not those of their task.",
    )
    MESSAGES_DROPPED_UNKNOWN_TASK = (
        "messages_dropped_unknown_task",
        "Well-formed messages for a task that no node has: another program's, or a newer version's.",
    )
    MESSAGES_DROPPED_TWIN_RUNNING = (
        "messages_dropped_twin_running",
        "Step messages that came while the instance's lock was held: by the same step, mostly, whose message came twice.",
    )
    REQUESTS_DROPPED_ID_IN_USE = (
        "requests_dropped_id_in_use",
        "Requests under the id of another request; what its caller sees stays that operation's.",
    )
    PLUGS_RESTORED = (
        "plugs_restored",
        "Running guests whose links, filters or DHCP entries were found to be gone, and were made again.",
    )
    ORPHANS_CONFIRMED = (
        "orphans_confirmed",
        "Looks that found a thing of a host which no record is of, and which was found so long enough before.",
    )
    ORPHANS_STOPPED = "orphans_stopped", "Domains without a record that were switched off."
    ORPHANS_REAPED = "orphans_reaped", "Things of hosts without a record that were taken away, or set aside."
    GUEST_EVENTS = "guest_events", "Events heard of guests: started, stopped, paused and the like."
    GUEST_STOPS_HELD = (
        "guest_stops_held",
        "Of these, stops that were held back, for a guest may be about to start again.",
    )
    GUEST_STOPS_DROPPED = "guest_stops_dropped", "Of these, stops dropped because the guest was heard of again in time."
    GUEST_EVENTS_LOST = (
        "guest_events_lost",
        "Events that could not be taken in time: all guests of the host were looked at.",
    )
    GUEST_LOOKS = "guest_looks", "Looks at guests asked for because of an event, each at one guest or at all of a host."
    GUEST_LISTENERS_DIED = "guest_listeners_died", "Listeners found dead while their control node lived."
    TICKS = "ticks", "Runs of periodic tasks: done, or the class of the error.", "task", "outcome"
    TICKS_SKIPPED = (
        "ticks_skipped",
        "Runs of periodic tasks that were asked for while one went on (running), or half a period early (too_soon).",
        "task",
        "why",
    )
    MONITORS_FAILED = "monitors_failed", "Measurements of a monitor that failed; the others were made.", "monitor"
    HOSTS_FELL_SILENT = "hosts_fell_silent", "Hosts whose steps node was noticed to have fallen silent."
    HOSTS_CAME_BACK = "hosts_came_back", "Hosts that were noticed to be back after a silence."
    BUILDS_TIMED_OUT = "builds_timed_out", "Builds that were cancelled because they took too long."
    DOMAINS_GONE = "domains_gone", "Instances put into error because their domain was seen to be gone, twice."
    POOL_PROCESSES_DIED = "pool_processes_died", "Pool processes of steps nodes found dead while their node lived."
    REDIS_TRIPS_SILENT = (
        "redis_trips_silent",
        "Round trips of tasks to the records that met silence: a time-out, or no connection.",
        "node",
    )


@dataclass(frozen=True, kw_only=True)
class Count:
    """So often, for one combination of a counter's labels; `labels` are their values, in the counter's order."""

    name: CounterName
    labels: tuple[str, ...]
    total: int


class Counters:
    """The hash of counts."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def add(self, name: CounterName, amount: int = 1) -> None:
        """`amount` more of a counter without labels. When Redis is silent or refuses, the count is lost and the log says so."""
        field = field_for(name)
        try:
            self._client.hincrby(self._keys.counters, field, amount)
        except redis.RedisError as error:
            log.warning("count_lost", counter=name.value, amount=amount, reason=repr(error))

    def add_amounts(self, amounts: Iterable[tuple[str, int]]) -> None:
        """Each of these fields (`field_for`, `histograms.amounts_for`) is so much more: one round trip. Lost as above."""
        pipe = self._client.pipeline(transaction=False)
        for field, amount in amounts:
            pipe.hincrby(self._keys.counters, field, amount)
        try:
            pipe.execute()
        except redis.RedisError as error:
            log.warning("counts_lost", reason=repr(error))

    def add_each(self, name: CounterName, labels: Iterable[str]) -> None:
        """One more of a counter with one label, for each of these values of it. Lost as above."""
        for label in labels:
            try:
                self._client.hincrby(self._keys.counters, field_for(name, label), 1)
            except redis.RedisError as error:
                log.warning("count_lost", counter=name.value, amount=1, reason=repr(error))

    def read(self) -> Mapping[str, int]:
        """Every field that was ever counted, as it is stored. CannotAsk when Redis is silent."""
        with asking("read the counters"):
            found = self._client.hgetall(self._keys.counters)
        return {str(field): int(total) for field, total in found.items()}

    def list_counts(self) -> tuple[Count, ...]:
        """The same, taken apart. Fields of counters that this version does not know are left out. CannotAsk as above."""
        return counts_in(self.read())


def counts_in(fields: Mapping[str, int]) -> tuple[Count, ...]:
    """The counters among these fields of the hash, taken apart."""
    counts = (_count_in(field, total) for field, total in sorted(fields.items()))
    return tuple(count for count in counts if count is not None)


def field_for(name: CounterName, *labels: str) -> str:
    """The field of the hash for these values of the counter's labels."""
    if len(labels) != len(name.labels):
        raise ValueError(f"counter {name.value} has the labels {name.labels}, not {labels}")
    return SEPARATOR.join((name.value, *labels))


def fields_for_end(operation: Operation) -> tuple[str, ...]:
    """What the write of this record counts: the end, when it is one. No record is written twice at its end."""
    if not operation.phase.settled:
        return ()
    return (field_for(CounterName.OPERATIONS, operation.flow, operation.phase.value),)


def fields_for_change(change: Change) -> tuple[str, ...]:
    """What a write of the journal counts beside an end: the try that it ends, a relaunch, another host."""
    before, after = change.before, change.after
    fields = []
    if after.timeline and after.timeline[-1:] != before.timeline[-1:]:
        last = after.timeline[-1]
        labels = (after.flow, last.step, last.direction.value, last.outcome)
        fields.append(field_for(CounterName.STEP_TRIES, *labels))
    if after.relaunches > before.relaunches:
        fields.append(field_for(CounterName.OPERATIONS_SENT_AGAIN))
    if after.host != before.host:
        fields.append(field_for(CounterName.OPERATIONS_RESCHEDULED))
    return tuple(fields)


def _count_in(field: str, total: int) -> Count | None:
    value, *labels = field.split(SEPARATOR)
    if value not in CounterName.__members__.values():
        return None
    name = CounterName(value)  # type: ignore[call-arg]  # looked up by value
    return Count(name=name, labels=tuple(labels), total=total) if len(labels) == len(name.labels) else None
