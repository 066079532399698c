"""A delete gets past every other operation, at every moment, and leaves nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.door import Admitted, Already
from taskvisor.model.errors import Busy, Refused
from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.states import Phase, VmState
from taskvisor.state.admission import Lease
from tests.support.fleet import Fleet
from tests.support.records import SAID_SO
from tests.support.spies import Moment
from tests.support.world import read_held, read_hosts
from tests.tasks.doors import Meanwhile, do_during, refuse_once

OP = OperationId("op")


@pytest.mark.parametrize("done", range(5))
def test_a_build_at_every_boundary_is_deleted_and_leaves_nothing(fleet: Fleet, done: int) -> None:
    fleet.begin_build("web", "op")
    for _ in range(done):
        fleet.post.deliver(fleet.post.chains[0])

    deleted = fleet.ask("instance.delete", "del", instance="web")

    assert (fleet.read("op").phase, deleted.phase) == (Phase.CANCELLED, Phase.SUCCEEDED)
    assert deleted.result == {
        "id": instance_id_for(OP),
        "name": "web",
        "vm_state": "deleted",
        "already": False,
    }
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


@pytest.mark.parametrize("done", range(5))
def test_a_delete_writes_under_a_token_that_the_build_never_had(fleet: Fleet, done: int) -> None:
    fleet.begin_build("web", "op")
    for _ in range(done):
        fleet.post.deliver(fleet.post.chains[0])
    former = fleet.read("op").token

    fleet.begin("instance.delete", "del", instance="web")

    held = fleet.store.admission.read_holding(instance_id_for(OP))
    assert held is not None
    assert held.lease == Lease(operation_id=OperationId("del"), token=former + 1)
    assert fleet.read("del").token == former + 1


@pytest.mark.parametrize(
    "call",
    [
        "disks.ensure_directory",
        "images.ensure_cached",
        "fabric.ensure_plugged",
        "hypervisor.ensure_defined",
        "hypervisor.ensure_running",
    ],
)
def test_a_build_whose_step_runs_is_stopped_after_it(fleet: Fleet, call: str) -> None:
    do_during(fleet, call, lambda: fleet.begin("instance.delete", "del", instance="web"))
    fleet.begin_build("web", "op")
    fleet.post.deliver_all()

    built = fleet.read("op")
    assert fleet.read("del").phase is Phase.SUCCEEDED
    assert built.phase is (Phase.SUCCEEDED if call.startswith("hypervisor") else Phase.CANCELLED)
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_waiting_delete_holds_nothing_yet(fleet: Fleet) -> None:
    phases: list[Phase] = []

    def delete() -> None:
        fleet.begin("instance.delete", "del", instance="web")
        phases.append(fleet.read("del").phase)

    do_during(fleet, "fabric.ensure_plugged", delete)
    fleet.build("web", "op")

    assert phases == [Phase.WAITING]


def test_a_second_delete_waits_for_the_first(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.delete", "del", instance="web")

    with pytest.raises(Busy, match=r"instance web is held by operation del \(instance.delete, running"):
        fleet.answer("instance.delete", "del-2", {"instance": "web"})
    fleet.post.deliver_all()

    assert isinstance(fleet.answer("instance.delete", "del-2", {"instance": "web"}), Already)


def test_a_second_delete_waits_for_one_that_waits(fleet: Fleet) -> None:
    refusals: list[str] = []

    def delete_twice() -> None:
        fleet.begin("instance.delete", "del", instance="web")
        with pytest.raises(Busy) as busy:
            fleet.answer("instance.delete", "del-2", {"instance": "web"})
        refusals.append(str(busy.value))

    do_during(fleet, "fabric.ensure_plugged", delete_twice)
    fleet.build("web", "op")

    assert refusals == ["instance web: operation del waits to delete it"]


def test_a_build_that_is_rolled_back_while_a_delete_waits_lets_it_end(fleet: Fleet) -> None:
    """The record stays until the delete has it: else the delete would find nothing to go by and fail."""

    def refuse_then_delete(name: str, moment: Moment) -> None:
        if name == "fabric.ensure_plugged" and moment is Moment.BEFORE:
            raise Refused("no")
        if name == "disks.ensure_removed" and moment is Moment.BEFORE and fleet.read("op").runner is not None:
            fleet.watch(lambda *_: None)
            fleet.begin("instance.delete", "del", instance="web")

    fleet.watch(refuse_then_delete)
    fleet.begin_build("web", "op")
    fleet.post.deliver_all()

    assert (fleet.read("op").phase, fleet.read("del").phase) == (Phase.FAILED, Phase.SUCCEEDED)
    assert read_held(fleet) == {}


@pytest.mark.parametrize("call", ["hypervisor.copy_disk", "disks.publish"])
def test_a_snapshot_is_taken_back_before_its_guest_is_deleted(fleet: Fleet, call: str) -> None:
    fleet.build()
    do_during(fleet, call, lambda: fleet.begin("instance.delete", "del", instance="web"))
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")

    assert fleet.read("del").phase is Phase.SUCCEEDED
    if call == "hypervisor.copy_disk":
        assert fleet.read("snap").phase is Phase.CANCELLED
        assert read_held(fleet) == {}  # not even the image's name
        assert read_hosts(fleet)["h1"]["files"] == []
    else:  # it was its last step: the image is made, and stays
        assert fleet.read("snap").phase is Phase.SUCCEEDED
        assert sorted(read_held(fleet)) == ["image:gold", "images"]


@pytest.mark.parametrize("done", [0, 1])
def test_a_snapshot_between_two_steps_is_taken_back_too(fleet: Fleet, done: int) -> None:
    fleet.build()
    fleet.begin("instance.snapshot", "snap", instance="web", image="gold")
    for _ in range(done):
        fleet.post.deliver(fleet.post.chains[0])

    assert fleet.begin("instance.delete", "del", instance="web").phase is Phase.WAITING
    fleet.post.deliver_all()

    assert (fleet.read("snap").phase, fleet.read("del").phase) == (Phase.CANCELLED, Phase.SUCCEEDED)
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"]["files"] == []


@pytest.mark.parametrize("state", ["stuck", "error", "stopped", "paused", "building"])
def test_a_guest_in_any_state_is_deleted(fleet: Fleet, state: str) -> None:
    if state == "stuck":
        operation = fleet.begin_build("web", "op")
        fleet.hosts[HostName("h1")].outsider.ensure_foreign_domain(operation.instance_id, "stranger")
        fleet.post.deliver_all()
        fleet.hosts[HostName("h1")].outsider.ensure_domain_gone(operation.instance_id)
    else:
        fleet.build("web", "op")
        guest = fleet.instance()
        fleet.store.admission.write_at_rest(guest, replace(guest, vm_state=VmState(state)), SAID_SO)

    deleted = fleet.ask("instance.delete", "del", instance="web")

    assert deleted.phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"]["domains"] == []


def test_an_instance_is_deleted_by_its_id_too(fleet: Fleet) -> None:
    operation = fleet.build()

    assert fleet.ask("instance.delete", "del", instance=operation.instance_id).phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}


def test_a_delete_of_a_guest_that_moved_between_look_and_write_goes_to_where_it_is(
    redis_url: str, memory_dir: Path
) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"))
    refuse_once(fleet, "h1")
    fleet.begin_build("web", "op")
    while fleet.post.chains[0].steps[0] != "operation.settle":
        fleet.post.deliver(fleet.post.chains[0])
    meanwhile = Meanwhile(fleet, "admission.read_holding", lambda: fleet.post.deliver(fleet.post.chains[0]))

    answer = meanwhile.door.change("instance.delete", OperationId("del"), {"instance": "web"})

    assert isinstance(answer, Admitted)
    assert answer.operation.host == "h2"
    fleet.post.launch(answer.operation)
    fleet.post.deliver_all()
    assert read_held(fleet) == {}
    fleet.close()
