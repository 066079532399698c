"""Wishes about operations that there are: that one stops, or that one goes on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Conflicting, IdInUse, Refused
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Runner
from taskvisor.model.states import Phase, PowerState, VmState
from tests.support.fleet import Fleet
from tests.support.world import read_everything, read_held, read_hosts
from tests.tasks.doors import Failing


def test_the_wish_is_noted_once(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")

    first = fleet.door.cancel("op".ljust(2))
    before = read_everything(fleet.client)

    assert first.cancel_requested
    assert fleet.door.cancel("op") == first
    assert read_everything(fleet.client) == before


def test_a_cancelled_build_leaves_nothing(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")
    for _ in range(3):
        fleet.post.deliver(fleet.post.chains[0])
    fleet.door.cancel("op")

    fleet.post.deliver_all()

    assert fleet.read("op").phase is Phase.CANCELLED
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_what_has_ended_stays_as_it_is(fleet: Fleet) -> None:
    done = fleet.build("web", "op")
    before = read_everything(fleet.client)

    assert fleet.door.cancel("op") == done
    assert read_everything(fleet.client) == before


def test_a_delete_cannot_be_cancelled(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.delete", "the-delete", instance="web")

    with pytest.raises(Refused) as refusal:
        fleet.door.cancel("the-d")

    assert str(refusal.value) == "operation the-delete deletes web; a delete cannot be cancelled"


def test_an_operation_is_named_by_the_beginning_of_its_id(fleet: Fleet) -> None:
    fleet.begin_build("web", "build-one")

    assert fleet.door.cancel("build-o").id == "build-one"
    with pytest.raises(Refused, match="no such operation is known"):
        fleet.door.cancel("nope")


def test_a_cancelled_change_leaves_the_guest_at_rest(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.reboot", "op", instance="web")
    fleet.post.deliver(fleet.post.chains[0])
    fleet.door.cancel("op")

    fleet.post.deliver_all()

    guest = fleet.instance()
    assert (fleet.read("op").phase, guest.vm_state, guest.task_state, guest.fault) == (
        Phase.CANCELLED,
        VmState.ACTIVE,
        None,
        None,
    )
    fleet.hosts[HostName("h1")].report.sync_power_states()
    assert (fleet.instance().vm_state, fleet.instance().power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)


def test_a_failed_build_begins_again_with_its_old_request(fleet: Fleet, tmp_path: Path) -> None:
    image = tmp_path / "late.raw"
    assert fleet.build("web", "op", image=str(image)).phase is Phase.FAILED
    image.write_bytes(bytes(510) + b"\x55\xaa")

    fleet.post.launch(fleet.door.retry("op"))
    fleet.post.deliver_all()

    assert (fleet.read("op").phase, fleet.instance().image_name) == (Phase.SUCCEEDED, str(image))


def test_a_stuck_operation_goes_on_where_it_stopped(fleet: Fleet) -> None:
    operation = fleet.begin_build("web", "op")
    outsider = fleet.hosts[HostName("h1")].outsider
    outsider.ensure_foreign_domain(operation.instance_id, "stranger")
    fleet.post.deliver_all()
    stuck = fleet.read("op")
    assert (stuck.phase, stuck.current_step) == (Phase.STUCK, "define_and_start")
    outsider.ensure_domain_gone(operation.instance_id)

    fleet.post.launch(fleet.door.retry("op"))
    fleet.post.deliver_all()

    assert (fleet.read("op").phase, fleet.read("op").failure) == (Phase.SUCCEEDED, None)


@pytest.fixture
def kept(fleet: Fleet, tmp_path: Path) -> Path:
    """A build that failed in fetch_image and was asked to keep what it had done. The path is its image's: not there yet."""
    image = tmp_path / "late.raw"
    assert fleet.build("web", "op", image=str(image), on_failure="keep").phase is Phase.FAILED
    return image


def test_a_failed_build_that_was_asked_to_keep_stays_as_it_is(fleet: Fleet, kept: Path) -> None:
    guest, failure = fleet.instance(), fleet.read("op").failure

    assert (guest.vm_state, guest.task_state, guest.fault and guest.fault.step) == (VmState.ERROR, None, "fetch_image")
    assert fleet.client.exists("taskvisor:lease:" + guest.id) == 0
    assert read_hosts(fleet)["h1"]["files"] != []
    assert failure is not None
    assert "what was done is kept on h1: `taskvisor ops retry op` goes on from fetch_image" in failure.message
    assert not kept.exists()


def test_a_kept_build_goes_on_from_the_step_that_failed(fleet: Fleet, kept: Path) -> None:
    kept.write_bytes(bytes(510) + b"\x55\xaa")
    fleet.post.delivered.clear()

    fleet.post.launch(fleet.door.retry("op"))
    assert (fleet.instance().vm_state, fleet.instance().fault) == (VmState.BUILDING, None)
    fleet.post.deliver_all()

    assert (fleet.read("op").phase, fleet.read("op").failure) == (Phase.SUCCEEDED, None)
    assert fleet.post.delivered == ["fetch_image", "render_xml", "plug_vif", "define_and_start"]
    assert (fleet.instance().vm_state, fleet.instance().fault) == (VmState.ACTIVE, None)


def test_a_kept_build_may_fail_again_and_be_kept_again(fleet: Fleet, kept: Path) -> None:
    fleet.post.launch(fleet.door.retry("op"))
    fleet.post.deliver_all()

    assert (fleet.read("op").kept, fleet.instance().vm_state, kept.exists()) == (True, VmState.ERROR, False)


@pytest.mark.usefixtures("kept")
def test_a_kept_build_is_deleted_like_any_guest(fleet: Fleet) -> None:
    assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED

    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}
    with pytest.raises(Refused, match="operation op: instance web is gone; there is nothing to retry"):
        fleet.door.retry("op")


@pytest.mark.parametrize("flow", ["instance.start", "instance.stop", "instance.reboot", "instance.snapshot"])
def test_a_kept_build_that_never_ran_can_only_be_retried_or_deleted(fleet: Fleet, kept: Path, flow: str) -> None:
    """A stop of what never ran would say STOPPED of a guest that is not there, and nobody could retry its build."""
    before = fleet.instance()

    with pytest.raises(Refused, match="instance web has never run"):
        fleet.answer(flow, "change", {"instance": "web", **({"image": "g"} if flow == "instance.snapshot" else {})})

    assert fleet.instance() == before
    kept.write_bytes(bytes(510) + b"\x55\xaa")
    fleet.post.launch(fleet.door.retry("op"))
    fleet.post.deliver_all()
    assert fleet.instance().vm_state is VmState.ACTIVE


@pytest.mark.usefixtures("kept")
def test_a_kept_build_is_not_retried_while_another_operation_holds_its_guest(fleet: Fleet) -> None:
    fleet.begin("instance.delete", "del", instance="web")

    with pytest.raises(Conflicting, match="instance web is held by operation del"):
        fleet.door.retry("op")


@pytest.mark.usefixtures("kept")
def test_the_id_of_a_kept_build_is_not_free_for_another_request(fleet: Fleet) -> None:
    with pytest.raises(IdInUse):
        fleet.begin_build("other", "op")


@pytest.mark.usefixtures("kept")
def test_a_kept_build_may_be_cancelled_on_its_next_way_and_leaves_nothing(fleet: Fleet) -> None:
    fleet.post.launch(fleet.door.retry("op"))
    fleet.door.cancel("op")
    fleet.post.deliver_all()

    assert fleet.read("op").phase is Phase.CANCELLED
    assert read_held(fleet) == {}
    assert read_hosts(fleet)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_stuck_operation_says_so_on_its_guest(fleet: Fleet) -> None:
    operation = fleet.begin_build("web", "op")
    fleet.hosts[HostName("h1")].outsider.ensure_foreign_domain(operation.instance_id, "stranger")
    fleet.post.deliver_all()

    guest = fleet.instance()
    assert fleet.read("op").left_alone == ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")
    assert (guest.task_state, guest.fault and guest.fault.code) == (None, "Contradiction")


@pytest.mark.parametrize("end", ["running", "succeeded"])
def test_what_has_not_failed_is_not_retried(fleet: Fleet, end: str) -> None:
    fleet.begin_build("web", "op")
    if end == "succeeded":
        fleet.post.deliver_all()

    with pytest.raises(Refused, match=f"operation op is {end}; only one that failed can be retried"):
        fleet.door.retry("op")


@pytest.mark.parametrize("flow", ["instance.start", "instance.stop", "instance.reboot", "instance.snapshot"])
def test_a_guest_that_is_half_deleted_is_good_for_nothing_but_a_delete(fleet: Fleet, flow: str) -> None:
    fleet.build()
    fleet.use_port("disks", Failing())
    assert fleet.ask("instance.delete", "del", instance="web").phase is Phase.FAILED
    fleet.restart()

    with pytest.raises(Refused, match="instance web is half deleted"):
        fleet.answer(flow, "op", {"instance": "web", **({"image": "g"} if flow == "instance.snapshot" else {})})

    fleet.post.launch(fleet.door.retry("del"))
    fleet.post.deliver_all()
    assert fleet.read("del").phase is Phase.SUCCEEDED
    assert read_held(fleet) == {}


def test_a_change_of_a_guest_that_is_gone_is_not_retried(fleet: Fleet) -> None:
    fleet.build()
    fleet.begin("instance.reboot", "reboot", instance="web")
    fleet.door.cancel("reboot")
    fleet.post.deliver_all()
    fleet.ask("instance.delete", "del", instance="web")

    with pytest.raises(Refused, match="operation reboot: instance web is gone; there is nothing to retry"):
        fleet.door.retry("reboot")


def test_a_build_that_a_delete_took_over_is_built_again(fleet: Fleet) -> None:
    fleet.begin_build("web", "op")
    fleet.post.deliver(fleet.post.chains[0])
    fleet.ask("instance.delete", "del", instance="web")
    assert fleet.read("op").phase is Phase.CANCELLED

    fleet.post.launch(fleet.door.retry("op"))
    fleet.post.deliver_all()

    assert (fleet.read("op").phase, fleet.instance().vm_state) == (Phase.SUCCEEDED, VmState.ACTIVE)


def test_a_wish_reaches_an_operation_that_a_runner_writes_at_the_same_time(fleet: Fleet) -> None:
    operation = fleet.begin_build("web", "op")
    runner = Runner(host=HostName("h1"), incarnation="first", pid=1)
    moved = replace(operation, revision=1, token=1, runner=runner)

    def move() -> None:
        fleet.store.journal.commit(Change(before=operation, after=moved, lease=LeaseMove.RENEW))

    catalog = MovingCatalog(fleet, move)
    door = replace(fleet.door, store=replace(fleet.store, catalog=catalog))  # type: ignore[arg-type]

    assert door.cancel("op").revision == 2


class MovingCatalog:
    """A catalog whose first answer is old before it is given."""

    def __init__(self, fleet: Fleet, move: Callable[[], None]) -> None:
        self._catalog = fleet.store.catalog
        self._moves = [move]

    def find_operation(self, prefix: str) -> object:
        found = self._catalog.find_operation(prefix)
        if self._moves:
            self._moves.pop()()
        return found
