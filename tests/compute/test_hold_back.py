"""A stop that may be half of a reboot is not looked at before its time; everything else at once."""

import pytest

from taskvisor.compute.hold_back import HOLD_S, HoldBack
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import GuestEvent, LifecycleChange

WEB, DB = InstanceId("web"), InstanceId("db")
STARTED, STOPPED, SHUTDOWN = LifecycleChange.STARTED, LifecycleChange.STOPPED, LifecycleChange.SHUTDOWN
AT_ONCE = [change for change in LifecycleChange if change not in (STOPPED, SHUTDOWN)]


def heard(change: LifecycleChange, guest: InstanceId = WEB) -> GuestEvent:
    return GuestEvent(instance_id=guest, change=change, detail="")


@pytest.mark.parametrize("change", AT_ONCE)
def test_all_but_a_stop_is_looked_at_without_delay(change: LifecycleChange) -> None:
    assert HoldBack().take([heard(change)], 100.0) == (WEB,)


def test_a_stop_is_looked_at_when_its_time_has_gone_by_and_only_once() -> None:
    held = HoldBack()

    assert held.take([heard(STOPPED)], 100.0) == ()
    assert held.due_in_s(100.0) == HOLD_S == 15.0
    assert held.take_due(100.0 + HOLD_S - 0.001) == ()
    assert held.take_due(100.0 + HOLD_S) == (WEB,)
    assert held.take_due(1000.0) == ()
    assert held.due_in_s(1000.0) is None
    assert (held.stops_held, held.stops_dropped) == (1, 0)


@pytest.mark.parametrize("newer", AT_ONCE)
def test_a_stop_is_dropped_when_anything_newer_is_heard_of_its_guest(newer: LifecycleChange) -> None:
    held = HoldBack()
    held.take([heard(STOPPED)], 100.0)

    assert held.take([heard(newer)], 114.0) == (WEB,)
    assert held.take_due(1000.0) == ()
    assert (held.stops_held, held.stops_dropped) == (1, 1)


def test_a_stop_after_a_stop_is_waited_for_from_the_beginning() -> None:
    held = HoldBack()
    held.take([heard(STOPPED)], 100.0)
    held.take([heard(STOPPED)], 110.0)

    assert held.take_due(115.0) == ()
    assert held.take_due(125.0) == (WEB,)
    assert (held.stops_held, held.stops_dropped) == (2, 1)


def test_a_shutdown_is_held_until_its_stop_is_and_is_no_dropped_stop() -> None:
    held = HoldBack()
    held.take([heard(SHUTDOWN)], 100.0)
    held.take([heard(STOPPED)], 101.0)

    assert held.take_due(115.0) == ()
    assert held.take_due(116.0) == (WEB,)
    assert (held.stops_held, held.stops_dropped) == (1, 0)


def test_a_shutdown_whose_stop_never_comes_is_looked_at_too() -> None:
    held = HoldBack()
    held.take([heard(SHUTDOWN)], 100.0)

    assert held.take_due(115.0) == (WEB,)
    assert held.stops_held == 0


def test_what_came_together_is_taken_in_its_order() -> None:
    held = HoldBack()

    assert held.take([heard(STOPPED), heard(STARTED)], 100.0) == (WEB,)
    assert held.due_in_s(100.0) is None
    assert held.take([heard(STARTED), heard(STOPPED)], 200.0) == ()
    assert held.take_due(215.0) == (WEB,)


def test_a_guest_that_is_heard_of_often_is_looked_at_once() -> None:
    assert HoldBack().take([heard(STARTED), heard(LifecycleChange.RESUMED), heard(STARTED, DB)], 100.0) == (WEB, DB)


def test_of_many_guests_each_has_its_own_time() -> None:
    held = HoldBack()
    guests = [InstanceId(f"guest-{number}") for number in range(1000)]
    for number, guest in enumerate(guests):
        assert held.take([heard(STOPPED, guest)], float(number)) == ()

    assert held.take([heard(STARTED, guest) for guest in guests[::2]], 1000.0) == tuple(guests[::2])

    assert held.take_due(HOLD_S + 500.0) == tuple(guests[1:501:2])
    assert held.due_in_s(HOLD_S + 500.0) == 1.0
    assert held.take_due(10_000.0) == tuple(guests[501::2])


def test_times_that_go_backwards_lose_no_stop() -> None:
    held = HoldBack()
    held.take([heard(STOPPED, DB)], 110.0)
    held.take([heard(STOPPED, WEB)], 100.0)

    assert held.take_due(115.0) == (WEB,)
    assert held.due_in_s(200.0) == 0.0
    assert held.take_due(125.0) == (DB,)


def test_no_more_than_so_many_are_held_and_the_rest_is_looked_at_at_once() -> None:
    held = HoldBack(held_limit=1)

    assert held.take([heard(STOPPED, WEB), heard(STOPPED, DB)], 100.0) == (DB,)
    assert held.take_due(115.0) == (WEB,)
