"""Requests for an instance that another operation holds, or that changes while it is looked at."""

from dataclasses import replace

import pytest

from tasks.door import Already
from taskvisor.model.errors import Conflicting, IdInUse, Refused
from taskvisor.model.ids import OperationId
from taskvisor.model.states import Phase, VmState
from taskvisor.state.codec import encode
from tests.support.fleet import KEYS, Fleet
from tests.support.records import SAID_SO
from tests.support.world import read_everything, read_held
from tests.tasks.doors import Failing, Meanwhile

OP = OperationId("op")


def test_the_operation_that_holds_an_instance_is_named_with_its_step(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")
    fleet.post.deliver(fleet.post.chains[0])

    with pytest.raises(Conflicting) as conflict:
        fleet.answer("instance.stop", "stop", {"instance": "web"})

    assert str(conflict.value) == (
        "instance web is held by operation op (instance.build, running, at step fetch_image); wait for it, or cancel it"
    )


@pytest.mark.parametrize("flow", ["instance.start", "instance.stop", "instance.reboot", "instance.snapshot"])
def test_nothing_but_a_delete_gets_past_another_operation(fleet: Fleet, flow: str) -> None:
    fleet.begin_build("web", "op")
    before = read_everything(fleet.client)

    with pytest.raises(Conflicting):
        fleet.answer(flow, "x", {"instance": "web", **({"image": "g"} if flow == "instance.snapshot" else {})})

    assert read_everything(fleet.client) == before


def test_a_lease_whose_operation_is_forgotten_says_so(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")
    fleet.client.delete(KEYS.operation("op"))

    with pytest.raises(Conflicting, match="held by operation op, of which no record is left"):
        fleet.answer("instance.stop", "stop", {"instance": "web"})
    assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED
    assert not [name for name in read_held(fleet) if not name.startswith("ops:")]


def test_a_change_decided_on_an_instance_that_changed_since_is_decided_again(fleet: Fleet) -> None:
    """Between its look and its write, another request comes, runs and ends."""
    fleet.build()
    meanwhile = Meanwhile(fleet, "admission.read_holding", lambda: fleet.ask("instance.stop", "stop", instance="web"))

    answer = meanwhile.door.change("instance.stop", OP, {"instance": "web"})

    assert isinstance(answer, Already)
    assert fleet.instance().vm_state is VmState.STOPPED


def test_a_change_of_an_instance_that_was_deleted_since_is_refused(fleet: Fleet) -> None:
    fleet.build()
    meanwhile = Meanwhile(fleet, "admission.read_holding", lambda: fleet.ask("instance.delete", "del", instance="web"))

    with pytest.raises(Refused, match="there is no instance of that name"):
        meanwhile.door.change("instance.reboot", OP, {"instance": "web"})
    assert read_held(fleet) == {}


def test_records_that_never_hold_still_are_looked_at_a_few_times(fleet: Fleet) -> None:
    fleet.build()
    states = [VmState.ACTIVE, VmState.PAUSED] * 10

    def change_it() -> None:
        guest = fleet.instance()
        fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=states.pop()), SAID_SO)

    always = Meanwhile(fleet, "admission.read_holding", change_it, times=20)

    with pytest.raises(Conflicting, match="operation op: the records moved 10 times while it was looked at"):
        always.door.change("instance.reboot", OP, {"instance": "web"})


def test_a_request_is_the_same_across_an_upgrade_that_knows_more_fields(fleet: Fleet) -> None:
    fleet.build("web", "op")
    old = fleet.read("op")
    request = {name: value for name, value in old.request.items() if name != "on_failure"}
    fleet.client.hset(KEYS.operation("op"), "doc", encode(replace(old, request=request)))

    assert fleet.begin_build("web", "op").id == "op"
    with pytest.raises(IdInUse):
        fleet.begin_build("other", "op")


def test_how_long_a_caller_would_wait_does_not_make_it_another_request(fleet: Fleet) -> None:
    fleet.build()
    fleet.ask("instance.reboot", "op", instance="web", wait_turn_s=5)

    assert fleet.begin("instance.reboot", "op", instance="web").phase is Phase.SUCCEEDED


def test_the_id_of_a_failed_operation_is_not_used_for_a_request_that_leaves_no_record(fleet: Fleet) -> None:
    """Its caller would be told a success, and its record a failure."""
    fleet.build("web")
    fleet.build("other")
    fleet.ask("instance.stop", "stop-other", instance="other")
    fleet.begin("instance.stop", "op", instance="web")
    fleet.door.cancel("op")
    fleet.post.deliver_all()
    assert fleet.read("op").phase is Phase.CANCELLED

    with pytest.raises(IdInUse, match="task id: op is that of an operation that failed; choose another"):
        fleet.answer("instance.stop", "op", {"instance": "other"})


def test_the_id_of_a_failed_delete_is_not_used_for_a_delete_of_what_is_not_there(fleet: Fleet) -> None:
    fleet.build("web")
    fleet.use_port("disks", Failing())
    assert fleet.ask("instance.delete", "op", instance="web").phase is Phase.FAILED

    with pytest.raises(IdInUse, match="task id: op is that of an operation that failed; choose another"):
        fleet.answer("instance.delete", "op", {"instance": "nobody"})
