"""A host's sign of life comes from its node's own process."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskvisor.model.ids import HostName
from tests.system.nodes import PREFIX, Nodes, wait_until

pytestmark = pytest.mark.real

HOST_DOWN_S = 4.0
ALIVE = f"{PREFIX}alive:kvm1"


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """The processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host that is called dead soon after it falls silent."""
    running = Nodes(
        redis_url,
        tmp_state_dir,
        host="kvm1",
        driver="simulated",
        TASKVISOR_HEARTBEAT_S="0.2",
        TASKVISOR_HOST_DOWN_S=str(HOST_DOWN_S),
    )
    try:
        running.start("steps")
        running.start("control", concurrency=1)
        running.wait_until_up()
        yield running
    finally:
        running.stop()


def test_a_host_whose_pool_is_busy_for_long_is_not_called_dead(nodes: Nodes) -> None:
    with frozen(nodes.children("steps")):
        seconds_before, _ = nodes.redis.time()

        def a_longer_time_has_passed() -> bool:
            assert nodes.redis.exists(ALIVE), "the host was called dead while its pool stood still"
            seconds, _ = nodes.redis.time()
            return bool(seconds - seconds_before > 2 * HOST_DOWN_S)

        wait_until(a_longer_time_has_passed, "twice the time after which a silent host is down")


def test_a_node_that_stands_still_is_called_dead_and_lives_when_it_goes_on(nodes: Nodes) -> None:
    with frozen([nodes.pid("steps")]):
        wait_until(lambda: not nodes.redis.exists(ALIVE), "the host to be called dead")

    wait_until(lambda: nodes.redis.exists(ALIVE), "the host to be heard of again")


def test_a_node_that_is_stopped_in_good_order_says_farewell_at_once(nodes: Nodes) -> None:
    nodes.stop()

    assert nodes.hosts.read_incarnation(HostName("kvm1")) is None
    assert "farewell_not_said" not in nodes.log_tail("steps")
