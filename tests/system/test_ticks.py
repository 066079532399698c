"""The timetable with real beat and real nodes: every row is sent, run and recorded, and one run goes on at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Run
from taskvisor.state.keys import Keys
from taskvisor.state.series import Series
from taskvisor.state.ticks import Ticks
from taskvisor.timetable import ROWS
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until
from tests.system.test_beat import Beat, beating

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

QUICK = "2"
"""Each of fourteen rows is run so often, by one process of a busy machine."""
LIMIT_S = 180.0
PERIODS = {f"TASKVISOR_{row.period.upper()}": QUICK for row in ROWS}
OPTIONS = {**PERIODS, "TASKVISOR_RECLAIM_S": "1", "TASKVISOR_PREWARM_IMAGES": "nosuch"}
HOST = HostName("kvm1")


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir, **OPTIONS) as running:
        yield running


@pytest.fixture
def beat(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    for name, value in OPTIONS.items():
        monkeypatch.setenv(name, value)
    with beating(nodes.redis_url, nodes.state_dir, "beat") as running:
        yield running


def last_runs(nodes: Nodes) -> dict[str, Run]:
    return {run.task: run for run in Ticks(nodes.redis, Keys(PREFIX)).list_last([HOST])}


def test_every_row_is_sent_run_and_recorded_and_what_is_deleted_softly_is_reclaimed(nodes: Nodes, beat: Beat) -> None:
    nodes.ask("instance.build", "b", name="web", image="simulated://debian", flavor="c1-m64-d1")
    assert nodes.ask("instance.soft_delete", "s", instance="web")["vm_state"] == "soft-delete"

    wait_until(
        lambda: {row.task for row in ROWS} <= last_runs(nodes).keys(),
        f"every row to be run: {last_runs(nodes)}",
        LIMIT_S,
    )
    assert {run.outcome for run in last_runs(nodes).values()} == {DONE}, last_runs(nodes)
    wait_until(lambda: not nodes.catalog.list_instances(), "what was deleted softly to be reclaimed", LIMIT_S)
    samples = Series(nodes.redis, Keys(PREFIX)).list_of_host(HOST)
    assert samples[0].values["cpu.frequency"] == 1000


def test_a_heap_of_messages_begins_one_run(nodes: Nodes) -> None:
    for _ in range(20):
        nodes.producer.send_task("host.monitor", kwargs={"period_s": 3600.0}, queue=f"host.{HOST}.control")
    nodes.producer.send_task("host.monitor", kwargs={"period_s": "often"}, queue=f"host.{HOST}.control")

    counts = nodes.redis.hgetall(Keys(PREFIX).counters)
    wait_until(
        lambda: int(nodes.redis.hget(Keys(PREFIX).counters, "ticks_skipped|host.monitor|too_soon") or 0) == 19,
        f"all but one to be skipped: {counts}",
    )
    assert nodes.redis.hget(Keys(PREFIX).counters, f"ticks|host.monitor|{DONE}") == "1"


def test_a_node_does_not_start_with_a_monitor_that_nobody_has(redis_url: str, tmp_state_dir: Path) -> None:
    nodes = Nodes(redis_url, tmp_state_dir, host="kvm1", driver="simulated", TASKVISOR_MONITORS="cpu,sunshine")
    try:
        nodes.start("control", concurrency=1)
        words = "kvm1 does not start: monitors: 'sunshine': there is no such monitor"
        wait_until(lambda: words in nodes.log_tail("control"), f"it to end in words: {nodes.log_tail('control')}")
    finally:
        nodes.stop()
