"""Letting operations in: whole, or not at all, however many ask at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import Conflicting, DoesNotFit, Refused, StoreConflict
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.operation import Operation, Runner
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission, Holding, Lease
from taskvisor.state.catalog import Catalog
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction
from tests.support.records import NETWORK, SAID_SO, claim, instance, operation
from tests.support.world import read_everything


@pytest.fixture
def guest(admission: Admission, client: redis.Redis, keys: Keys) -> Instance:
    """A guest at rest."""
    at_rest = instance(ports=())
    admission.admit_build(operation("build-web", at_rest), at_rest, claim(at_rest))
    client.delete(keys.lease(at_rest.id))
    return at_rest


def held(admission: Admission, guest: Instance) -> Holding:
    seen = admission.read_holding(guest.id)
    assert seen is not None
    return seen


def lease_of(admission: Admission, guest: Instance) -> Lease | None:
    return held(admission, guest).lease


def test_a_build_that_is_let_in_is_there_in_every_index(
    admission: Admission, catalog: Catalog, hosts: Hosts, addresses: Addresses
) -> None:
    guest = instance()
    port = guest.ports[0]
    address = addresses.allocate(NETWORK, port.id, mac=port.mac, wanted=None, now=1.0).address
    build = operation("build-web", guest, created_at=5.0, updated_at=5.0)

    admission.admit_build(build, guest, claim(guest))

    assert address == port.address
    assert catalog.find_instance("web") == catalog.find_instance(guest.id) == guest
    assert catalog.list_instances() == catalog.list_instances(guest.host) == (guest,)
    assert catalog.list_operations() == (build,)
    assert catalog.list_unsettled(before=5.0) == catalog.list_unsettled_on(guest.host) == (build.id,)
    assert catalog.list_unsettled(before=4.9) == ()
    assert hosts.list_claims(guest.host) == ((guest.id, Resources(vcpus=1, memory_mib=64, disk_gib=1)),)
    assert lease_of(admission, guest) == Lease(operation_id=build.id, token=0)
    assert addresses.list_forgotten(1e12) == ()


def test_the_same_build_let_in_again_is_told_that_it_is_known(admission: Admission, client: redis.Redis) -> None:
    guest = instance(ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))
    before = read_everything(client)

    with pytest.raises(StoreConflict, match="operation build-web is known already"):
        admission.admit_build(operation("build-web", guest, created_at=2.0), guest, claim(guest))

    assert read_everything(client) == before


def test_a_name_is_given_once(admission: Admission, client: redis.Redis, guest: Instance) -> None:
    second = instance(operation_id="build-2", ports=())
    before = read_everything(client)

    with pytest.raises(Refused) as refusal:
        admission.admit_build(operation("build-2", second), second, claim(second))

    assert str(refusal.value) == (
        f"name: 'web' is the name of instance {guest.id}; choose another, or delete that one first"
    )
    assert read_everything(client) == before


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Resources(vcpus=1, memory_mib=64, disk_gib=1), "host h1: vcpus 1 asked, 0 of 1 free"),
        (Resources(vcpus=2, memory_mib=127, disk_gib=2), "host h1: memory_mib 64 asked, 63 of 127 free"),
        (Resources(vcpus=2, memory_mib=128, disk_gib=1), "host h1: disk_gib 1 asked, 0 of 1 free"),
    ],
)
def test_a_host_without_room_says_what_is_short(
    admission: Admission, client: redis.Redis, guest: Instance, limits: Resources, sentence: str
) -> None:
    second = instance("db", "build-2", ports=())
    before = read_everything(client)

    with pytest.raises(DoesNotFit) as refusal:
        admission.admit_build(operation("build-2", second), second, claim(second, limits=limits))

    assert str(refusal.value) == sentence
    assert read_everything(client) == before


def test_of_twenty_builds_at_once_a_host_with_room_for_seven_takes_seven(admission: Admission, hosts: Hosts) -> None:
    room = Resources(vcpus=7, memory_mib=1_000_000, disk_gib=1000)

    def admit(number: int) -> bool:
        one = instance(f"web{number}", f"build-{number}", ports=())
        try:
            admission.admit_build(operation(f"build-{number}", one), one, claim(one, limits=room))
        except DoesNotFit:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        let_in = list(pool.map(admit, range(20)))

    assert sum(let_in) == 7
    assert len(hosts.list_claims(HostName("h1"))) == 7


def test_of_twenty_builds_of_one_name_one_is_let_in(admission: Admission, catalog: Catalog) -> None:
    def admit(number: int) -> bool:
        one = instance("web", f"build-{number}", ports=())
        try:
            admission.admit_build(operation(f"build-{number}", one), one, claim(one))
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        let_in = list(pool.map(admit, range(20)))

    assert sum(let_in) == len(catalog.list_instances()) == 1


def test_a_build_whose_port_was_given_back_meanwhile_looks_again(admission: Admission, client: redis.Redis) -> None:
    guest = instance()
    before = read_everything(client)

    with pytest.raises(StoreConflict):
        admission.admit_build(operation("build-web", guest), guest, claim(guest))

    assert read_everything(client) == before


def test_an_ended_operation_begins_again_from_its_last_revision(
    admission: Admission, client: redis.Redis, keys: Keys
) -> None:
    guest = instance(ports=())
    client.hset(keys.operation("build-web"), mapping={"rev": "7", "doc": "{}"})

    with pytest.raises(StoreConflict):
        admission.admit_build(operation("build-web", guest, revision=9), guest, claim(guest))
    admission.admit_build(operation("build-web", guest, revision=8), guest, claim(guest))

    assert client.hget(keys.operation("build-web"), "rev") == "8"


def test_one_operation_at_a_time_changes_an_instance(
    admission: Admission, client: redis.Redis, guest: Instance
) -> None:
    seen = held(admission, guest)
    admission.admit_change(operation("stop", guest), replace(guest, task_state=TaskState.POWERING_OFF), seen)
    before = read_everything(client)

    with pytest.raises(StoreConflict):
        admission.admit_change(operation("reboot", guest), guest, seen)
    with pytest.raises(StoreConflict):
        admission.admit_change(operation("reboot", guest), guest, held(admission, guest))  # it is held: not by this way

    assert read_everything(client) == before


def test_who_saw_an_instance_before_another_operation_came_and_went_looks_again(
    admission: Admission, client: redis.Redis, keys: Keys, catalog: Catalog, guest: Instance
) -> None:
    stale = held(admission, guest)
    stopped = replace(guest, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)
    admission.admit_change(operation("stop", guest), stopped, stale)
    client.delete(keys.lease(guest.id))  # and it has ended

    with pytest.raises(StoreConflict):
        admission.admit_change(operation("reboot", guest), replace(guest, task_state=TaskState.REBOOTING), stale)

    assert catalog.read_instance(guest.id) == stopped


def test_of_twenty_changes_at_once_one_is_let_in(admission: Admission, guest: Instance) -> None:
    seen = held(admission, guest)

    def admit(number: int) -> bool:
        try:
            admission.admit_change(operation(f"stop-{number}", guest), guest, seen)
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(admit, range(20))) == 1


def test_an_images_name_is_reserved_for_one_snapshot(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance
) -> None:
    admission.admit_change(operation("snap-1", guest), guest, held(admission, guest), "gold")
    client.delete(keys.lease(guest.id))
    before = read_everything(client)

    with pytest.raises(Refused) as refusal:
        admission.admit_change(operation("snap-2", guest), guest, held(admission, guest), "gold")

    assert str(refusal.value) == ("image: 'gold' is the name of image snap-1; choose another, or remove that one first")
    assert read_everything(client) == before


@pytest.fixture
def holder(admission: Admission, guest: Instance) -> Operation:
    """An operation that holds the guest."""
    stop = operation("stop", guest)
    admission.admit_change(stop, guest, held(admission, guest))
    return stop


def ended(holder: Operation, by: str) -> Operation:
    return replace(holder, revision=holder.revision + 1, phase=Phase.CANCELLED, preempted_by=by)  # type: ignore[arg-type]


def test_a_delete_takes_the_lease_from_one_that_runs_no_step(
    admission: Admission, catalog: Catalog, guest: Instance, holder: Operation
) -> None:
    delete = operation("delete", guest, token=1)

    admission.admit_over(
        delete, replace(guest, task_state=TaskState.DELETING), held(admission, guest), ended(holder, "delete")
    )

    assert lease_of(admission, guest) == Lease(operation_id=delete.id, token=1)
    assert catalog.read_operation(holder.id) == ended(holder, "delete")
    unsettled = catalog.list_unsettled_on(guest.host)
    assert delete.id in unsettled
    assert holder.id not in unsettled


def test_a_delete_does_not_take_over_from_one_that_moved(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance, holder: Operation
) -> None:
    seen = held(admission, guest)
    client.hset(keys.operation(holder.id), "rev", 1)
    before = read_everything(client)

    with pytest.raises(StoreConflict):
        admission.admit_over(operation("delete", guest, token=1), guest, seen, ended(holder, "delete"))
    waiting = operation("delete", guest, phase=Phase.WAITING)
    with pytest.raises(StoreConflict):
        admission.admit_waiting(waiting, seen, ended(holder, "delete"))

    assert read_everything(client) == before


@pytest.mark.parametrize("moved", ["lease", "record"])
def test_a_delete_that_saw_an_older_instance_looks_again(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance, holder: Operation, moved: str
) -> None:
    seen = held(admission, guest)
    if moved == "lease":
        client.hset(keys.lease(guest.id), "token", 3)
    else:
        tx = Transaction()
        admission._writer.instance(tx, replace(guest, host=HostName("h2")), SAID_SO)
        tx.run(client, "move it")
    before = read_everything(client)

    with pytest.raises(StoreConflict):
        admission.admit_over(operation("delete", guest, token=1), guest, seen, ended(holder, "delete"))

    assert read_everything(client) == before


def test_an_instance_without_record_is_not_held(admission: Admission) -> None:
    assert admission.read_holding(InstanceId("nobody's")) is None


def test_what_was_seen_of_a_guest_at_rest_is_noted(admission: Admission, catalog: Catalog, guest: Instance) -> None:
    off = replace(guest, vm_state=VmState.STOPPED)

    admission.write_at_rest(guest, off, SAID_SO)

    assert catalog.read_instance(guest.id) == off


def test_nothing_is_noted_of_a_guest_that_an_operation_holds(
    admission: Admission, client: redis.Redis, guest: Instance, holder: Operation
) -> None:
    before = read_everything(client)

    with pytest.raises(Conflicting):
        admission.write_at_rest(guest, replace(guest, vm_state=VmState.STOPPED), SAID_SO)

    assert read_everything(client) == before


def test_nothing_is_noted_of_a_guest_that_changed_since_it_was_read(
    admission: Admission, catalog: Catalog, guest: Instance
) -> None:
    off = replace(guest, vm_state=VmState.STOPPED)
    admission.write_at_rest(guest, off, SAID_SO)

    with pytest.raises(Conflicting):
        admission.write_at_rest(guest, replace(guest, vm_state=VmState.PAUSED), SAID_SO)

    assert catalog.read_instance(guest.id) == off


def test_nothing_is_noted_of_a_guest_that_is_gone(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance
) -> None:
    client.delete(keys.instance(guest.id))

    with pytest.raises(Conflicting):
        admission.write_at_rest(guest, replace(guest, vm_state=VmState.STOPPED), SAID_SO)


def test_a_record_that_an_older_version_wrote_can_still_be_changed(
    admission: Admission, client: redis.Redis, keys: Keys, guest: Instance
) -> None:
    """It lacks the fields added since, so it is compared as it is stored, not as it would be written today."""
    text = str(client.get(keys.instance(guest.id)))
    client.set(keys.instance(guest.id), text.replace(',"fault":null', ""))

    admission.write_at_rest(guest, replace(guest, vm_state=VmState.STOPPED), SAID_SO)
    admission.admit_change(operation("start", guest), guest, held(admission, guest))


def test_a_runner_in_a_record_survives_the_store(admission: Admission, catalog: Catalog) -> None:
    guest = instance(ports=())
    runner = Runner(host=HostName("h1"), incarnation="first", pid=7)
    build = operation("build-web", guest, runner=runner, runner_until=3.5, facts={"a": {"b": [1, None]}})

    admission.admit_build(build, guest, claim(guest))

    assert catalog.read_operation(build.id) == build
