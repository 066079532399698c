"""A delete that can be taken back for a while: what is kept, who reclaims it and when, and who wins."""

from dataclasses import replace

import pytest

from tasks.door import Already
from tasks.periodic import HostReport
from tasks.reclaiming import DELETES_LIMIT, RECLAIM_INSTANCES, Reclaimer
from taskvisor.model.errors import Cancelled, Conflicting, Contradiction, Refused
from taskvisor.model.ids import HostName
from taskvisor.model.records import Resources
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from tests.support.fleet import Fleet
from tests.support.world import read_held, read_hosts
from tests.tasks.doors import do_during

H1, LONG_S, PERIOD_S = HostName("h1"), 1200.0, 60.0


@pytest.fixture
def reclaimer(fleet: Fleet) -> Reclaimer:
    """h1's, for what was deleted softly for 20 min."""
    return Reclaimer(
        store=fleet.store,
        host=H1,
        ask=fleet.ask_later,
        now=fleet.clock.now,
        reclaim_s=LONG_S,
        period_s=PERIOD_S,
    )


def soft_deleted(fleet: Fleet) -> None:
    fleet.build()
    assert fleet.ask("instance.soft_delete", "soft", instance="web").phase is Phase.SUCCEEDED


def wait(fleet: Fleet, reclaimer: Reclaimer, seconds: float) -> None:
    """So long, with a look each period."""
    for _ in range(int(seconds // PERIOD_S)):
        fleet.clock.sleep(PERIOD_S)
        reclaimer.reclaim()


def test_what_is_deleted_softly_is_off_and_keeps_all_that_it_has(fleet: Fleet) -> None:
    fleet.build()
    before, held = fleet.instance(), read_held(fleet)

    fleet.ask("instance.soft_delete", "soft", instance="web")

    assert fleet.instance() == replace(before, vm_state=VmState.SOFT_DELETED, power_state=PowerState.SHUTDOWN)
    assert {key: value for key, value in read_held(fleet).items() if not key.startswith("instance:")} == {
        key: value for key, value in held.items() if not key.startswith("instance:")
    }
    assert [host.used for host in fleet.store.hosts.list_hosts()] == [Resources(vcpus=1, memory_mib=64, disk_gib=1)]


def test_what_is_restored_runs_as_before(fleet: Fleet) -> None:
    soft_deleted(fleet)

    assert fleet.ask("instance.restore", "back", instance="web").phase is Phase.SUCCEEDED

    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.ACTIVE, PowerState.RUNNING)


def test_what_is_so_already_is_success(fleet: Fleet) -> None:
    fleet.build()
    assert isinstance(fleet.answer("instance.restore", "a", {"instance": "web"}), Already)
    fleet.ask("instance.soft_delete", "soft", instance="web")
    assert isinstance(fleet.answer("instance.soft_delete", "b", {"instance": "web"}), Already)


@pytest.mark.parametrize("flow", ["instance.start", "instance.stop", "instance.reboot"])
def test_nothing_else_is_done_with_what_is_deleted_softly(fleet: Fleet, flow: str) -> None:
    soft_deleted(fleet)

    with pytest.raises(Refused, match="web is soft-delete"):
        fleet.answer(flow, "op", {"instance": "web"})


def test_a_delete_for_good_takes_what_is_deleted_softly(fleet: Fleet) -> None:
    soft_deleted(fleet)

    fleet.ask("instance.delete", "del", instance="web")

    assert read_held(fleet) == {}


def test_what_was_not_restored_in_time_is_gone_with_all_that_it_held(fleet: Fleet, reclaimer: Reclaimer) -> None:
    empty = read_hosts(fleet)
    soft_deleted(fleet)
    reclaimer.reclaim()

    wait(fleet, reclaimer, LONG_S - PERIOD_S)
    assert fleet.asked == []
    wait(fleet, reclaimer, PERIOD_S)
    fleet.take_asked()

    assert read_held(fleet) == {}
    assert read_hosts(fleet) == empty


def test_what_was_restored_begins_anew_when_it_is_deleted_again(fleet: Fleet, reclaimer: Reclaimer) -> None:
    soft_deleted(fleet)
    wait(fleet, reclaimer, LONG_S - 3 * PERIOD_S)
    fleet.ask("instance.restore", "back", instance="web")
    wait(fleet, reclaimer, PERIOD_S)
    fleet.ask("instance.soft_delete", "again", instance="web")

    wait(fleet, reclaimer, LONG_S - 3 * PERIOD_S)

    assert fleet.asked == []


@pytest.mark.parametrize("jump_s", [-1e9, -LONG_S, LONG_S, 1e9])
def test_a_clock_that_jumps_reclaims_nothing(fleet: Fleet, reclaimer: Reclaimer, jump_s: float) -> None:
    soft_deleted(fleet)
    wait(fleet, reclaimer, 3 * PERIOD_S)

    fleet.clock.jump(jump_s)
    wait(fleet, reclaimer, 3 * PERIOD_S)

    assert fleet.asked == []
    wait(fleet, reclaimer, LONG_S)
    assert [name for name, _, _ in fleet.asked][:1] == ["instance.reclaim"]


def test_time_in_which_nobody_looked_does_not_count(fleet: Fleet, reclaimer: Reclaimer) -> None:
    soft_deleted(fleet)
    reclaimer.reclaim()
    fleet.clock.sleep(30 * LONG_S)

    reclaimer.reclaim()

    assert fleet.asked == []


def test_a_restore_that_came_first_wins_over_a_reclaim_that_was_asked_for(fleet: Fleet, reclaimer: Reclaimer) -> None:
    soft_deleted(fleet)
    reclaimer.reclaim()
    wait(fleet, reclaimer, LONG_S)
    fleet.asked = fleet.asked[:1]
    fleet.begin("instance.restore", "back", instance="web")

    with pytest.raises(Conflicting, match="is held by operation back"):
        fleet.take_asked()
    fleet.post.deliver_all()

    assert fleet.instance().vm_state is VmState.ACTIVE
    with pytest.raises(Refused, match="web is active; reclaim needs it to be one of: soft-delete"):
        fleet.answer("instance.reclaim", "late", {"instance": "web"})


def test_a_reclaim_that_is_cancelled_before_it_began_leaves_what_can_be_restored(fleet: Fleet) -> None:
    soft_deleted(fleet)
    fleet.begin("instance.reclaim", "end", instance="web")
    fleet.door.cancel("end")
    fleet.post.deliver_all()

    assert fleet.read("end").phase is Phase.CANCELLED
    assert (fleet.instance().vm_state, fleet.instance().task_state) == (VmState.SOFT_DELETED, None)
    assert fleet.ask("instance.restore", "back", instance="web").phase is Phase.SUCCEEDED


def test_a_reclaim_that_is_cancelled_later_leaves_what_can_only_be_deleted(fleet: Fleet) -> None:
    soft_deleted(fleet)
    do_during(fleet, "fabric.ensure_unplugged", lambda: fleet.door.cancel("end"))
    fleet.begin("instance.reclaim", "end", instance="web")
    fleet.post.deliver_all()

    operation = fleet.read("end")
    assert operation.failure is not None
    assert operation.failure.code == Cancelled.__name__
    assert (fleet.instance().vm_state, fleet.instance().task_state) == (VmState.SOFT_DELETED, TaskState.DELETING)
    with pytest.raises(Refused, match="is half deleted"):
        fleet.answer("instance.restore", "back", {"instance": "web"})


def test_what_a_reclaim_has_left_half_deleted_stays_so_when_the_next_is_cancelled_before_it_began(fleet: Fleet) -> None:
    soft_deleted(fleet)
    do_during(fleet, "fabric.ensure_unplugged", lambda: fleet.door.cancel("end"))
    fleet.ask("instance.reclaim", "end", instance="web")

    fleet.begin("instance.reclaim", "again", instance="web")
    fleet.door.cancel("again")
    fleet.post.deliver_all()

    assert fleet.read("again").phase is Phase.CANCELLED
    assert (fleet.instance().vm_state, fleet.instance().task_state) == (VmState.SOFT_DELETED, TaskState.DELETING)
    with pytest.raises(Refused, match="is half deleted"):
        fleet.answer("instance.restore", "back", {"instance": "web"})


@pytest.fixture
def half_deleted(fleet: Fleet) -> Fleet:
    """An instance whose delete failed half-way: its links can't be removed."""
    fleet.build()
    fleet.use_port("fabric", Locked(fleet))
    fleet.ask("instance.delete", "del", instance="web")
    assert fleet.instance().task_state is TaskState.DELETING
    return fleet


class Locked:
    """A fabric that lets nothing go."""

    def __init__(self, fleet: Fleet) -> None:
        self._real = fleet.hosts[H1].ports.fabric

    def ensure_unplugged(self, vif: object) -> None:
        raise Refused("the bridge is another's")

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_a_delete_that_failed_is_asked_for_again_until_it_succeeds(half_deleted: Fleet, reclaimer: Reclaimer) -> None:
    assert reclaimer.retry_deletes() == {"half_deleted": 1, "asked": 1}
    half_deleted.take_asked()
    half_deleted.use_port("fabric", half_deleted.hosts[H1].ports.fabric)
    assert reclaimer.retry_deletes() == {"half_deleted": 1, "asked": 1}
    half_deleted.take_asked()

    assert read_held(half_deleted) == {}
    assert reclaimer.retry_deletes() == {"half_deleted": 0, "asked": 0}


def test_a_delete_is_asked_for_so_often_and_no_more(half_deleted: Fleet, reclaimer: Reclaimer) -> None:
    asked = []
    for _ in range(DELETES_LIMIT + 2):
        asked.append(reclaimer.retry_deletes()["asked"])
        half_deleted.take_asked()

    assert asked == [*[1] * DELETES_LIMIT, 0, 0]


def test_a_message_that_is_not_taken_up_is_asked_for_under_the_same_id(
    half_deleted: Fleet, reclaimer: Reclaimer
) -> None:
    reclaimer.retry_deletes()
    reclaimer.retry_deletes()

    assert len({operation_id for _, operation_id, _ in half_deleted.asked}) == 1


def test_a_delete_that_goes_on_or_is_stuck_is_left_alone(fleet: Fleet, reclaimer: Reclaimer) -> None:
    fleet.build()
    fleet.hosts[H1].outsider.ensure_domain_gone(fleet.instance().id)
    fleet.hosts[H1].outsider.ensure_foreign_domain(fleet.instance().id, "stranger")
    fleet.ask("instance.delete", "del", instance="web")
    assert fleet.read("del").phase is Phase.STUCK
    assert fleet.read("del").failure.code == Contradiction.__name__  # type: ignore[union-attr]

    reclaimer.retry_deletes()

    assert fleet.asked == []


def test_what_is_waited_for_is_forgotten_with_it(fleet: Fleet, reclaimer: Reclaimer) -> None:
    soft_deleted(fleet)
    reclaimer.reclaim()
    assert len(fleet.store.waiting.read(f"{RECLAIM_INSTANCES}:h1")) == 1
    fleet.ask("instance.delete", "del", instance="web")

    reclaimer.reclaim()

    assert fleet.store.waiting.read(f"{RECLAIM_INSTANCES}:h1") == {}


def test_a_soft_deleted_guest_that_somebody_starts_is_told_of(fleet: Fleet) -> None:
    soft_deleted(fleet)
    report: HostReport = fleet.hosts[H1].report
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.RUNNING)

    assert report.sync_power_states() == 1
    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.SOFT_DELETED, PowerState.RUNNING)
