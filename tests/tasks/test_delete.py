"""instance.delete end to end; how it gets past other operations is in test_door_delete.py."""

import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase, TaskState, VmState
from tests.support.fleet import Fleet
from tests.support.world import read_held, read_hosts
from tests.tasks.doors import Failing

H1 = HostName("h1")


def test_a_deleted_guest_leaves_nothing(fleet: Fleet) -> None:
    fleet.build("web", networks=["default", "default"])

    deleted = fleet.ask("instance.delete", "del", instance="web")

    assert [entry.step for entry in deleted.timeline] == ["destroy_domain", "unplug_vif", "remove_disks"]
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_guest_of_which_parts_are_missing_is_deleted(fleet: Fleet) -> None:
    operation = fleet.build()
    fleet.hosts[H1].ports.hypervisor.ensure_undefined(operation.instance_id)
    fleet.hosts[H1].ports.disks.ensure_removed(operation.instance_id)

    assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}


def test_a_neighbour_is_not_touched(fleet: Fleet) -> None:
    fleet.build("web")
    fleet.build("db")
    fleet.ask("instance.delete", "del", instance="web")

    assert [domain[2] for domain in read_hosts(fleet)["h1"]["domains"]] == ["RUNNING"]
    assert fleet.instance("db").addresses == ("10.152.0.3",)
    assert len(fleet.hosts[H1].ports.fabric.list_links()) == 1


@pytest.mark.parametrize("port", ["hypervisor", "fabric", "disks"])
def test_a_delete_that_fails_leaves_the_record_with_its_fault_and_may_be_asked_again(fleet: Fleet, port: str) -> None:
    fleet.build()
    fleet.use_port(port, Failing())

    failed = fleet.ask("instance.delete", "del", instance="web")

    guest = fleet.instance()
    assert (failed.phase, failed.failure and failed.failure.code) == (Phase.FAILED, "OutOfTries")
    assert (guest.vm_state, guest.task_state, guest.fault and guest.fault.operation_id) == (
        VmState.ERROR,
        TaskState.DELETING,
        "del",
    )
    assert len(fleet.store.hosts.list_claims(H1)) == 1

    fleet.restart()
    assert fleet.ask("instance.delete", "del-2", instance="web").phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}


def test_what_belongs_to_another_is_left_alone(fleet: Fleet) -> None:
    operation = fleet.build()
    fleet.hosts[H1].outsider.ensure_domain_gone(operation.instance_id)
    fleet.hosts[H1].outsider.ensure_foreign_domain(operation.instance_id, "stranger")

    stuck = fleet.ask("instance.delete", "del", instance="web")

    assert (stuck.phase, stuck.failure and stuck.failure.code) == (Phase.STUCK, "Contradiction")
    assert len(fleet.store.hosts.list_claims(H1)) == 1
