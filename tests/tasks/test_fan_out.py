"""The timetable, and how a row of it reaches every host: in slices, to those that live, and never held back by a clock."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery

from beat_schedule import KEEP_AT_LEAST_S, SLICES, schedule_for, timetable_page
from tasks.edge import Edge
from tasks.node import Node
from tasks.tick_tasks import TickTasks, slice_of
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.settings import Settings
from taskvisor.timetable import ROWS, Where, period_s_of
from tests.fixtures.machine import ROOT
from tests.support.fleet import Fleet
from tests.tasks.edges import open_edge_app

PERIOD_S = 40.0


@pytest.fixture
def hosts(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """Six hosts, of which h6 is silent."""
    fleet = Fleet(redis_url, memory_dir, hosts=tuple(f"h{number}" for number in range(1, 7)))
    fleet.store.hosts.note_gone(HostName("h6"), "first")
    yield fleet
    fleet.close()


@pytest.fixture
def app(redis_url: str, hosts: Fleet) -> Iterator[Celery]:
    with open_edge_app(redis_url, hosts) as opened:
        yield opened


def sent_to(fleet: Fleet, queue: str) -> list[dict[str, Any]]:
    """The headers of the messages in the queue."""
    return [json.loads(raw)["headers"] for raw in fleet.client.lrange(queue, 0, -1)]


def fan_out(app: Celery, task: str = "host.track", times: int = SLICES) -> None:
    for _ in range(times):
        app.tasks["host.fan_out"](task, PERIOD_S)


def test_over_a_period_each_live_host_is_sent_one_and_a_silent_one_none(app: Celery, hosts: Fleet) -> None:
    fan_out(app)

    told = {name: [headers["task"] for headers in sent_to(hosts, f"host.{name}.control")] for name in hosts.hosts}
    assert told == {**{f"h{number}": ["host.track"] for number in range(1, 6)}, "h6": []}


def test_hosts_do_not_move_in_step(app: Celery, hosts: Fleet) -> None:
    told = []
    for _ in range(SLICES):
        fan_out(app, times=1)
        told.append(sum(len(sent_to(hosts, f"host.{name}.control")) for name in hosts.hosts))

    assert max(told[0], *(later - earlier for earlier, later in pairwise(told))) < 5


def test_hosts_fall_into_slices_of_about_one_size() -> None:
    sizes = Counter(slice_of(HostName(f"kvm{number:04}.example.org")) for number in range(1000))

    assert len(sizes) == SLICES
    assert max(sizes.values()) < 2 * 1000 / SLICES


def test_a_message_has_no_time_before_which_it_is_held_and_lives_for_an_hour_at_least(
    app: Celery, hosts: Fleet
) -> None:
    """By the clock of who takes it: a node that is minutes fast must not drop every tick, nor a slow one hoard them."""
    before = time.time()
    fan_out(app)

    (headers,) = sent_to(hosts, "host.h1.control")
    assert headers["eta"] is None
    assert datetime.fromisoformat(headers["expires"]).timestamp() - before >= KEEP_AT_LEAST_S


def test_what_may_take_minutes_goes_to_the_steps_node(app: Celery, hosts: Fleet) -> None:
    fan_out(app, "host.prewarm_images")

    assert [headers["task"] for headers in sent_to(hosts, "host.h1")] == ["host.prewarm_images"]


@pytest.mark.parametrize("task", ["shop.send_mail", "operation.sweep", "build.prepare_disk", "", None, ["host.track"]])
def test_only_periodic_tasks_of_hosts_are_sent(app: Celery, hosts: Fleet, task: Any) -> None:
    with pytest.raises(Refused, match="is no periodic task of hosts"):
        fan_out(app, task, times=1)


@pytest.mark.parametrize("period_s", [0, -1, 1e300, "often", None])
def test_what_is_no_period_is_refused(app: Celery, hosts: Fleet, period_s: Any) -> None:
    with pytest.raises(Refused, match="must be a number of seconds"):
        app.tasks["host.fan_out"]("host.track", period_s)


def test_each_row_has_a_task_and_each_task_a_row(app: Celery) -> None:
    tasks = TickTasks(
        app,
        lambda: None,  # type: ignore[arg-type,return-value]
        sweep_images=lambda: None,
        sweep_drains=lambda: None,
    ).ticks

    assert sorted(tasks) == sorted(row.task for row in ROWS)
    assert all(app.tasks[row.task] for row in ROWS)


def test_ticks_are_told_to_flower_only_where_somebody_wants_it() -> None:
    quiet = Celery("quiet", broker="memory://", set_as_current=False)
    edge = Edge(quiet, lambda: cast(Node, None))
    edge.register()
    names = [*(row.task for row in ROWS), "host.fan_out"]
    assert {quiet.tasks[name].send_events for name in names} == {False}
    edge.ticks.send_events()
    assert {quiet.tasks[name].send_events for name in names} == {True}
    quiet.close()


def test_each_row_is_by_settings_that_there_are_and_has_a_sentence_for_its_reason() -> None:
    for row in ROWS:
        assert row.period in Settings.model_fields
        assert row.needs is None or row.needs in Settings.model_fields
        assert row.reason.endswith(".")
    assert len({row.name for row in ROWS}) == len({row.task for row in ROWS}) == len(ROWS)


def test_beat_sends_what_is_on_and_what_is_for_hosts_in_slices() -> None:
    settings = Settings(track_s=8, monitor_s=0, reclaim_s=0, prewarm_images="")
    schedule = schedule_for(settings)

    assert schedule["track"]["schedule"] == timedelta(seconds=8 / SLICES)
    assert schedule["track"]["kwargs"] == {"task": "host.track", "period_s": 8.0}
    assert schedule["sweep"]["schedule"] == timedelta(seconds=settings.sweep_s)
    assert {"monitor", "reclaim", "prewarm", "usage"}.isdisjoint(schedule)
    assert {"monitor", "reclaim", "prewarm", "usage"} <= schedule_for(
        Settings(monitor_s=1, reclaim_s=1, prewarm_images="debian", usage_audit_s=3600)
    ).keys()


def test_a_row_that_is_off_has_no_period() -> None:
    rows = {row.name: row for row in ROWS}

    assert period_s_of(rows["builds"], Settings(instance_build_timeout_s=0)) is None
    assert period_s_of(rows["builds"], Settings()) == 60
    assert rows["sweep"].where is Where.FLEET


def test_the_page_is_fresh() -> None:
    command = "python -m beat_schedule > docs/timetable.md"
    assert (ROOT / "docs" / "timetable.md").read_text() == timetable_page(), f"run: {command}"
