"""How long things took: how many fell into each span, and their sum, kept beside the counters in the same hash.

A field is a count for one span, or the sum in milliseconds, of one combination of labels; so a try that ends adds to two
fields, in the very transaction that records it. Versions that do not know a histogram pass over its fields, as
over any counter's. Must never know who reads: names and labels are ours, Prometheus' words are `workers/histogram_metrics.py`'s.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.change import Change
from taskvisor.model.operation import Operation

SEPARATOR = "|"
"""Between a histogram's name, its labels and what the field holds: see `counters`."""
SUM = "ms"
BEYOND = "inf"
"""The span of what took longer than the last bound."""

Amounts = tuple[tuple[str, int], ...]
"""Fields of the hash, and how much more each of them is to be."""


class HistogramName(StrEnum):
    """Every histogram: its name, a sentence, the upper bounds of its spans in seconds, and the names of its labels."""

    sentence: str
    bounds_s: tuple[float, ...]
    labels: tuple[str, ...]

    def __new__(cls, name: str, sentence: str, bounds_s: tuple[float, ...], *labels: str) -> "HistogramName":
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        member.bounds_s = bounds_s
        member.labels = labels
        return member

    STEP_DURATION = (
        "step_duration",
        "How long tries of steps took, failed ones too.",
        (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
        "flow",
        "step",
        "direction",
    )
    OPERATION_DURATION = (
        "operation_duration",
        "From when an operation was asked for to its end.",
        (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
        "flow",
        "outcome",
    )
    REDIS_TRIP_DURATION = (
        "redis_trip_duration",
        "How long answered round trips of tasks to the records took, by node: steps, control. Celery's own are not among them.",
        (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
        "node",
    )


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """For one combination of labels: how many took up to each bound and no more than it, those beyond last, and the sum."""

    name: HistogramName
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    sum_s: float


def amounts_for(name: HistogramName, labels: tuple[str, ...], durations_s: Iterable[float]) -> Amounts:
    """What the hash is to have more when these durations are added."""
    found: dict[str, int] = {}
    for duration_s in durations_s:
        spent_s = max(0.0, duration_s)  # a clock may be put back
        span = _spans_of(name)[bisect_left(name.bounds_s, spent_s)]
        for word, amount in ((span, 1), (SUM, round(spent_s * 1000))):
            found[field_for(name, labels, word)] = found.get(field_for(name, labels, word), 0) + amount
    return tuple(found.items())


def amounts_for_end(operation: Operation) -> Amounts:
    """What the write of this record adds, when it is an end."""
    if not operation.phase.settled:
        return ()
    labels = (operation.flow, operation.phase.value)
    return amounts_for(HistogramName.OPERATION_DURATION, labels, [operation.updated_at - operation.created_at])


def amounts_for_change(change: Change) -> Amounts:
    """What a write of the journal adds: the try that it ends."""
    before, after = change.before, change.after
    if not after.timeline or after.timeline[-1:] == before.timeline[-1:]:
        return ()
    last = after.timeline[-1]
    labels = (after.flow, last.step, last.direction.value)
    return amounts_for(HistogramName.STEP_DURATION, labels, [last.ended_at - last.started_at])


def histograms_in(fields: Mapping[str, int]) -> tuple[Histogram, ...]:
    """Those in the hash, in the order of name and labels. Of what this version does not know nothing is told."""
    found: dict[tuple[HistogramName, tuple[str, ...]], dict[str, int]] = {}
    for field, amount in fields.items():
        value, *labels = field.split(SEPARATOR)
        word = labels.pop() if labels else ""
        if value in HistogramName.__members__.values():
            name = HistogramName(value)  # type: ignore[call-arg]  # looked up by value
            if len(labels) == len(name.labels) and word in (*_spans_of(name), SUM):
                found.setdefault((name, tuple(labels)), {})[word] = amount
    return tuple(
        Histogram(
            name=name,
            labels=labels,
            counts=tuple(words.get(span, 0) for span in _spans_of(name)),
            sum_s=words.get(SUM, 0) / 1000,
        )
        for (name, labels), words in sorted(found.items())
    )


def field_for(name: HistogramName, labels: tuple[str, ...], word: str) -> str:
    """The field of the hash: of the span with that upper bound, of BEYOND, or of the SUM."""
    if len(labels) != len(name.labels):
        raise ValueError(f"histogram {name.value} has the labels {name.labels}, not {labels}")
    return SEPARATOR.join((name.value, *labels, word))


def _spans_of(name: HistogramName) -> tuple[str, ...]:
    return (*(f"{bound_s:g}" for bound_s in name.bounds_s), BEYOND)
