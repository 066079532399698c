"""What may be asked in which state holds under races: what begins, begins alone and in a state in which it may.

Several ask at once while news of the hypervisor move the same record. Once one is let in nobody else writes the record, so the
state that it began in is the one that is read afterwards.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest

from tasks.door import ALREADY, Admitted, Answer
from taskvisor.model.allowed import ALLOWED
from taskvisor.model.errors import Conflicting, Refused
from taskvisor.model.history import Cause
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import PowerState, VmState
from taskvisor.state.history import Histories
from tests.support.fleet import KEYS, Fleet
from tests.tasks.doors import Meanwhile

ASKED = ("instance.start", "instance.stop", "instance.reboot", "instance.snapshot", "instance.attach_volume")
NEWS = (
    (VmState.ACTIVE, PowerState.RUNNING),
    (VmState.STOPPED, PowerState.SHUTDOWN),
    (VmState.ERROR, PowerState.CRASHED),
    (VmState.RESIZED, PowerState.RUNNING),
)
ROUNDS, ASKERS, MOVES = 10, 5, 8
NEWS_CAME = Cause(by="power_sync", at=1.0, reason="news came")


def fields_for(flow: str, operation_id: str) -> dict[str, str]:
    more = {
        "instance.snapshot": {"image": operation_id},
        "instance.attach_volume": {"volume": f"rbd://v/{operation_id}"},
    }
    return {"instance": "web", **more.get(flow, {})}


def move(fleet: Fleet, vm_state: VmState, power_state: PowerState) -> None:
    """As a power sync does: the record of an instance at rest says something else."""
    web = fleet.instance()
    try:
        fleet.store.admission.write_at_rest(web, replace(web, vm_state=vm_state, power_state=power_state), NEWS_CAME)
    except Conflicting:
        return  # an operation holds it, or another was quicker


def move_often(fleet: Fleet, news: list[tuple[VmState, PowerState]]) -> None:
    for vm_state, power_state in news:
        move(fleet, vm_state, power_state)


def ask(fleet: Fleet, flow: str, operation_id: str) -> Operation | None:
    """The operation, if it was let in."""
    try:
        answer = fleet.answer(flow, operation_id, fields_for(flow, operation_id))
    except Refused:
        return None
    return answer.operation if isinstance(answer, Admitted) else None


@pytest.mark.parametrize("seed", range(3))
def test_who_asks_at_once_begins_alone_and_in_a_state_in_which_it_may(fleet: Fleet, seed: int) -> None:
    chance = random.Random(seed)
    fleet.build()
    begun = 0
    with ThreadPoolExecutor(ASKERS + 1) as pool:
        for number in range(ROUNDS):
            news = pool.submit(move_often, fleet, chance.choices(NEWS, k=MOVES))
            asked = [pool.submit(ask, fleet, chance.choice(ASKED), f"op-{number}-{one}") for one in range(ASKERS)]
            news.result()
            admitted = [operation for operation in (future.result() for future in asked) if operation is not None]
            assert len(admitted) <= 1, "two operations hold one instance"
            for operation in admitted:
                assert fleet.instance().vm_state in ALLOWED[operation.flow].vm_states, operation.flow
                begun += 1
                fleet.post.launch(operation)
                fleet.post.deliver_all()
    assert begun, "nothing ever began: it was no race"
    assert_unbroken(fleet)


def assert_unbroken(fleet: Fleet) -> None:
    """Each move began where the one before it had ended, and the last one ended where the record is."""
    moves, web = Histories(fleet.client, KEYS).read(fleet.instance().id), fleet.instance()
    assert (moves[0].states.vm_state, moves[0].states.power_state) == (web.vm_state, web.power_state)
    assert all(one.former != one.states for one in moves)


def meanwhile(fleet: Fleet, flow: str, news: tuple[VmState, PowerState]) -> Answer:
    """The answer to who looks at a state in which it may ask, and finds another when it writes."""
    fleet.build()
    move(fleet, *next(one for one in NEWS if one[0] in ALLOWED[flow].vm_states))
    moving = Meanwhile(fleet, "admission.read_holding", lambda: move(fleet, *news))
    return moving.door.change(flow, OperationId("op"), fields_for(flow, "op"))


@pytest.mark.parametrize(
    ("flow", "news"),
    [one for one in product(ASKED, NEWS) if one[1][0] not in {*ALLOWED[one[0]].vm_states, ALREADY.get(one[0])}],
)
def test_a_state_that_moved_to_one_in_which_it_may_not_be_asked_is_refused(
    fleet: Fleet, flow: str, news: tuple[VmState, PowerState]
) -> None:
    with pytest.raises(Refused, match=f"instance web is {news[0].value}; "):
        meanwhile(fleet, flow, news)


@pytest.mark.parametrize(
    ("flow", "news"), [one for one in product(ASKED, NEWS) if one[1][0] in ALLOWED[one[0]].vm_states]
)
def test_a_state_that_moved_to_another_in_which_it_may_is_the_one_that_it_begins_in(
    fleet: Fleet, flow: str, news: tuple[VmState, PowerState]
) -> None:
    assert isinstance(meanwhile(fleet, flow, news), Admitted)
    assert fleet.instance().vm_state is news[0]
