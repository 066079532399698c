"""A build that is under way for too long is cancelled and rolled back, with its reason; by its looks, not by a clock."""

import pytest

from tasks.build_time_out import BuildTimeOut
from taskvisor.model.states import Phase
from tests.support.fleet import Fleet
from tests.support.world import read_held

PERIOD_S, LIMIT_S = 60.0, 3600.0


@pytest.fixture
def time_out(fleet: Fleet) -> BuildTimeOut:
    return BuildTimeOut(
        store=fleet.store,
        door=fleet.door,
        launch=fleet.post.launch,
        now=fleet.clock.now,
        limit_s=LIMIT_S,
        period_s=PERIOD_S,
    )


def wait(fleet: Fleet, time_out: BuildTimeOut, seconds: float) -> int:
    """So long, with a look each period; how many builds that timed out."""
    timed_out = 0
    for _ in range(int(seconds // PERIOD_S)):
        fleet.clock.sleep(PERIOD_S)
        timed_out += time_out.run()["timed_out"]
    return timed_out


def test_a_build_that_takes_too_long_is_rolled_back_with_its_reason(fleet: Fleet, time_out: BuildTimeOut) -> None:
    fleet.begin_build()
    assert time_out.run() == {"under_way": 1, "timed_out": 0}
    assert wait(fleet, time_out, LIMIT_S - PERIOD_S) == 0

    assert wait(fleet, time_out, PERIOD_S) == 1
    fleet.post.deliver_all()

    operation = fleet.read("build-web")
    assert operation.phase is Phase.CANCELLED
    assert operation.failure is not None
    assert (
        "under way for more than 3600 s, the limit of TASKVISOR_INSTANCE_BUILD_TIMEOUT_S" in operation.failure.message
    )
    assert read_held(fleet) == {}
    assert fleet.store.counters.read()["builds_timed_out"] == 1


def test_it_is_told_once(fleet: Fleet, time_out: BuildTimeOut) -> None:
    fleet.begin_build()
    time_out.run()

    assert wait(fleet, time_out, 2 * LIMIT_S) == 1


def test_whoever_tries_it_again_has_all_the_time_anew(fleet: Fleet, time_out: BuildTimeOut) -> None:
    fleet.begin_build()
    time_out.run()
    wait(fleet, time_out, LIMIT_S)
    fleet.post.deliver_all()
    fleet.door.retry("build-web")

    assert wait(fleet, time_out, LIMIT_S) == 0
    assert wait(fleet, time_out, PERIOD_S) == 1


def test_other_operations_and_what_has_ended_are_left_alone(fleet: Fleet, time_out: BuildTimeOut) -> None:
    fleet.build()
    fleet.begin("instance.reboot", "op", instance="web")

    assert time_out.run() == {"under_way": 0, "timed_out": 0}


@pytest.mark.parametrize("jump_s", [-1e9, -LIMIT_S, LIMIT_S, 1e9])
def test_a_clock_that_jumps_times_nothing_out(fleet: Fleet, time_out: BuildTimeOut, jump_s: float) -> None:
    fleet.begin_build()
    time_out.run()
    wait(fleet, time_out, LIMIT_S / 2)

    fleet.clock.jump(jump_s)

    assert wait(fleet, time_out, LIMIT_S / 4) == 0
    assert wait(fleet, time_out, LIMIT_S) == 1
