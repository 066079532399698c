"""Durations in the hash of counters: what a write adds, and what is read back."""

import pytest
import redis

from taskvisor.model.change import Change
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from taskvisor.state.admission import Admission
from taskvisor.state.counters import Counters
from taskvisor.state.histograms import Histogram, HistogramName, amounts_for, histograms_in
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from tests.state.test_counters import after, ended, entry
from tests.support.records import claim, instance, operation

STEP = HistogramName.STEP_DURATION


@pytest.fixture
def accepted(admission: Admission) -> Operation:
    """A build that was let in."""
    guest = instance(ports=())
    build = operation("build-web", guest)
    admission.admit_build(build, guest, claim(guest))
    return build


def test_a_duration_falls_into_the_first_span_that_holds_it() -> None:
    bounds = STEP.bounds_s
    fields = dict(amounts_for(STEP, ("f", "s", "do"), [0.0, 0.01, 0.011, 1e6, -3.0]))

    (found,) = histograms_in(fields)

    assert found.counts == (3, 1, *(0 for _ in bounds[2:]), 1)
    assert found.sum_s == 1e6 + 0.021


def test_a_try_is_measured_when_it_ends_and_once(
    journal: RedisJournal, client: redis.Redis, keys: Keys, accepted: Operation
) -> None:
    tried = after(accepted, timeline=(entry("done", 2.0),))
    noted = after(tried, cancel_requested=True)
    for before, now in ((accepted, tried), (tried, noted)):
        journal.commit(Change(before=before, after=now))

    (found,) = histograms_in(Counters(client, keys).read())

    took_s = tried.timeline[0].ended_at - tried.timeline[0].started_at
    assert (found.name, found.labels) == (STEP, ("toy", "a", "do"))
    assert (sum(found.counts), found.sum_s) == (1, took_s)


def test_an_end_is_measured_from_when_it_was_asked_for(
    journal: RedisJournal, client: redis.Redis, keys: Keys, accepted: Operation
) -> None:
    change = ended(accepted, Phase.FAILED)
    journal.commit(change)
    journal.commit(change)

    (found,) = histograms_in(Counters(client, keys).read())

    assert (found.name, found.labels) == (HistogramName.OPERATION_DURATION, ("toy", "failed"))
    assert sum(found.counts) == 1
    assert found.sum_s == change.after.updated_at - change.after.created_at


def test_what_a_newer_version_measures_is_left_out() -> None:
    fields = {
        "boot_duration|web|1": 3,
        "step_duration|f|s|1": 1,
        "step_duration|f|s|do|7.5": 1,
        "operations|f|failed": 2,
        "guest_looks": 4,
    }

    assert histograms_in(fields) == ()


def test_a_sum_without_its_counts_is_a_histogram_of_nothing() -> None:
    assert histograms_in({"redis_trip_duration|steps|ms": 1500}) == (
        Histogram(
            name=HistogramName.REDIS_TRIP_DURATION,
            labels=("steps",),
            counts=(0,) * (len(HistogramName.REDIS_TRIP_DURATION.bounds_s) + 1),
            sum_s=1.5,
        ),
    )
