"""How a drain is decided, where a fleet would be a long way round."""

from dataclasses import replace
from typing import Any

import pytest

from taskvisor.compute.drain import START_LIMIT_S, Look, Situation, advanced, refused, undrained_with_guests
from taskvisor.model.drain import Drain, DrainPhase, Errand, ErrandKind, Fate, GuestPolicy
from taskvisor.model.host_mark import HostMark
from taskvisor.model.ids import HostName, OperationId, errand_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.records import Host, Resources
from taskvisor.model.states import Phase, PowerState, VmState
from tests.support.records import instance, operation

H1, ID = HostName("h1"), OperationId("the-drain")
NOW = 100.0
A = instance("a", "build-a", ports=())
OFF = replace(A, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


def drain(**fields: Any) -> Drain:
    known = {"began_at": 1.0, "looked_at": 1.0, "deadline_at": 1000.0, "guests": GuestPolicy.STOP}
    return Drain(id=ID, host=H1, reason="x", by="ann", **{**known, **fields})


def host(**fields: Any) -> Host:
    known = {"up": True, "disabled_reason": "draining: x", "draining": DrainPhase.DRAINING}
    return Host(name=H1, inventory=None, used=Resources(), instances=0, **{**known, **fields})


def seen(*instances: Any, errands: tuple[Operation, ...] = (), **fields: Any) -> Situation:
    known: dict[str, Any] = {"host": host(), "errands": {one.id: one for one in errands}}
    return Situation(instances=instances, **{**known, **fields})


def stop_of(phase: Phase, tries: int = 1) -> Operation:
    settled_at = NOW if phase.settled else None
    return operation(errand_id_for(ID, ErrandKind.STOP, A.id, tries), A, phase=phase, settled_at=settled_at)


def asked(kind: ErrandKind = ErrandKind.STOP, tries: int = 1, **fields: Any) -> dict[str, Any]:
    return {A.id: Errand(kind=kind, operation_id=errand_id_for(ID, kind, A.id, tries), tries=tries, **fields)}


def test_an_errand_that_nobody_knows_of_is_asked_for_again_under_the_same_id() -> None:
    first = advanced(drain(), seen(A), NOW, 4)
    again = advanced(first.drain, seen(A), NOW, 4)

    assert first.asks == again.asks == (A.id,)
    assert first.drain.errands == again.drain.errands == asked()


def test_an_errand_that_is_under_way_is_left_alone() -> None:
    going = stop_of(Phase.RUNNING)

    look = advanced(drain(errands=asked()), seen(A, errands=(going,), under_way=(going,)), NOW, 4)

    assert (look.asks, look.drain.errands) == ((), asked())
    assert look.drain.prospects[0].why == f"is being stopped (operation {going.id})"


def test_a_stop_that_failed_is_tried_again_under_another_id() -> None:
    look = advanced(drain(errands=asked()), seen(A, errands=(stop_of(Phase.FAILED),)), NOW, 4)

    assert (look.asks, look.drain.errands) == ((A.id,), asked(tries=2))


def test_a_stop_that_was_refused_as_often_as_it_may_be_is_in_the_way() -> None:
    tired = refused(drain(errands=asked(tries=3)), A.id, "no")

    look = advanced(tired, seen(A), NOW, 4)

    assert look.asks == ()
    assert [(one.fate, one.why) for one in look.drain.prospects] == [
        (Fate.FAILED, "was not stopped, tried 3 times: no")
    ]


def test_guests_that_are_gone_are_forgotten_but_not_while_something_cannot_be_read() -> None:
    stopped = drain(errands=asked(problem="no"), stopped=(A.id,))

    assert advanced(stopped, seen(unreadable=("x",)), NOW, 4).drain.stopped == (A.id,)
    gone = advanced(stopped, seen(), NOW, 4).drain
    assert (gone.stopped, gone.errands, gone.phase) == ((), {}, DrainPhase.DRAINED)


@pytest.mark.parametrize("down", [{"up": False}, {"forced_down": HostMark(reason="x", by="ann", at=1.0)}])
def test_of_a_host_that_is_down_nothing_is_asked(down: dict[str, Any]) -> None:
    look = advanced(drain(errands=asked()), seen(A, host=host(**down)), NOW, 4)

    assert (look.asks, [one.fate for one in look.drain.prospects]) == ((), [Fate.UNREACHABLE])


def test_a_stop_noted_before_the_host_was_given_back_is_not_asked_for_afterwards() -> None:
    given_back = undrained_with_guests(drain(errands=asked()), NOW)

    waiting = advanced(given_back, seen(A, host=host(disabled_reason=None)), NOW, 4)
    forgotten = advanced(waiting.drain, seen(A, host=host(disabled_reason=None)), NOW + 61, 4)

    assert (waiting.asks, waiting.drain.phase) == ((), DrainPhase.STARTING)
    assert (forgotten.asks, forgotten.drain.phase) == ((), DrainPhase.OVER)


def test_guests_that_cannot_be_started_are_told_and_end_it() -> None:
    tired = drain(phase=DrainPhase.STARTING, stopped=(A.id,), errands=asked(ErrandKind.START, 3, problem="no"))

    look = advanced(replace(tired, deadline_at=NOW + START_LIMIT_S), seen(OFF), NOW, 4)

    assert (look.drain.phase, look.drain.stopped) == (DrainPhase.OVER, (A.id,))
    assert [(one.name, one.fate) for one in look.drain.prospects] == [("a", Fate.FAILED)]


def test_starting_ends_in_time_though_the_host_stays_down() -> None:
    starting = undrained_with_guests(drain(stopped=(A.id,)), NOW)
    down = seen(OFF, host=host(up=False, disabled_reason=None))

    looks: list[Look] = [advanced(starting, down, NOW + passed, 4) for passed in (1.0, START_LIMIT_S + 1)]

    assert [look.drain.phase for look in looks] == [DrainPhase.STARTING, DrainPhase.OVER]
    assert [look.asks for look in looks] == [(), ()]
