"""Volumes of guests end to end: at build, attached and detached later, held by one instance, and never lost on the way."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.door import Already
from taskvisor.model.errors import Busy, Conflicting, Refused
from taskvisor.model.observed import ConnectedVolume
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase, PowerState, VmState
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.records import SAID_SO
from tests.support.spies import Moment
from tests.support.world import read_held, read_hosts

DATA = "rbd://volumes/data"
LOGS = "nfs://filer/export/logs.raw"


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running, and no volume of its."""
    fleet.build()
    return fleet


def attach(fleet: Fleet, volume: str | dict[str, Any], operation_id: str = "attach", name: str = "web") -> Operation:
    return fleet.ask("instance.attach_volume", operation_id, instance=name, volume=volume)


def detach(fleet: Fleet, volume: str, operation_id: str = "detach") -> Operation:
    return fleet.ask("instance.detach_volume", operation_id, instance="web", volume=volume)


def devices(fleet: Fleet, name: str = "web") -> dict[str, str | None]:
    """What the record says: the device of each volume."""
    return {volume.source: volume.device for volume in fleet.instance(name).volumes}


def plugged(fleet: Fleet, name: str = "web") -> list[str]:
    """What the domain has."""
    return sorted(fleet.hosts[fleet.instance(name).host].outsider.list_disks()[fleet.instance(name).id])


def connected(fleet: Fleet) -> tuple[ConnectedVolume, ...]:
    (host,) = fleet.hosts.values()
    return host.ports.volumes.list_connected()


def holders(fleet: Fleet, identity: str) -> dict[str, str]:
    return {str(holder): str(how) for holder, how in fleet.client.hgetall(KEYS.volume(identity)).items()}


def deafen(fleet: Fleet) -> None:
    """The guest does not let go of any disk from now on."""

    def on_call(name: str, moment: Moment) -> None:
        if name == "hypervisor.ensure_disk_detached" and moment is Moment.BEFORE:
            raise Busy("the guest has not let go", delay_s=10.0)

    fleet.watch(on_call)


def test_a_guest_is_built_with_its_volumes_and_leaves_them_whole(fleet: Fleet) -> None:
    built = fleet.build(volumes=[DATA, {"source": LOGS, "serial": "logs", "device": "vdd"}])

    assert built.phase is Phase.SUCCEEDED
    assert devices(fleet) == {DATA: "vdb", LOGS: "vdd"}
    assert plugged(fleet) == ["sda", "vda", "vdb", "vdd"]
    assert {one.source for one in connected(fleet)} == {DATA, LOGS}
    assert audit(fleet) == ()

    fleet.ask("instance.delete", "del", instance="web")
    assert connected(fleet) == ()
    assert read_held(fleet) == {}


def test_a_volume_is_attached_to_a_guest_that_runs_and_is_there_after_its_next_start(guest: Fleet) -> None:
    attached = attach(guest, DATA)

    assert attached.phase is Phase.SUCCEEDED
    assert attached.result is not None
    assert [volume["device"] for volume in attached.result["volumes"]] == ["vdb"]
    assert plugged(guest) == ["sda", "vda", "vdb"]
    guest.ask("instance.reboot", "reboot", instance="web", type="hard")
    assert plugged(guest) == ["sda", "vda", "vdb"]
    assert audit(guest) == ()


@pytest.mark.parametrize("state", ["stopped", "paused"])
def test_a_volume_is_attached_to_a_guest_that_does_not_run(guest: Fleet, state: str) -> None:
    if state == "stopped":
        guest.ask("instance.stop", "stop", instance="web", timeout_s=0)
    else:
        (host,) = guest.hosts.values()
        host.outsider.ensure_power_state(guest.instance().id, PowerState.PAUSED)
        host.report.sync_power_states()
    before = guest.instance()

    assert attach(guest, DATA).phase is Phase.SUCCEEDED

    assert guest.instance().vm_state is before.vm_state
    assert plugged(guest) == ["sda", "vda", "vdb"]


def test_one_more_volume_or_one_less_renames_nothing(guest: Fleet) -> None:
    attach(guest, DATA, "one")
    attach(guest, LOGS, "two")
    detach(guest, DATA)
    attach(guest, "rbd://volumes/third", "three")
    assert devices(guest) == {LOGS: "vdc", "rbd://volumes/third": "vdb"}

    detach(guest, "rbd://volumes/third", "detach-third")
    guest.ask("instance.reboot", "reboot", instance="web", type="hard")
    assert devices(guest) == {LOGS: "vdc"}
    assert plugged(guest) == ["sda", "vda", "vdc"]


def test_a_detached_volume_is_nobodys(guest: Fleet) -> None:
    attach(guest, DATA)

    assert detach(guest, DATA).phase is Phase.SUCCEEDED

    assert (devices(guest), plugged(guest), connected(guest), holders(guest, DATA)) == ({}, ["sda", "vda"], (), {})
    assert audit(guest) == ()
    assert guest.build("next", volumes=[DATA]).phase is Phase.SUCCEEDED


def test_a_volume_is_detached_by_its_serial_too(guest: Fleet) -> None:
    attach(guest, {"source": DATA, "serial": "db-1"})
    assert detach(guest, "db-1").phase is Phase.SUCCEEDED


def test_a_volume_is_held_by_one_instance_and_who_asks_for_it_too_is_told_by_whom(guest: Fleet) -> None:
    attach(guest, DATA)
    web = guest.instance()
    before = read_held(guest)

    with pytest.raises(Refused, match=f"volume: {DATA} is held by instance {web.id}; detach it there first"):
        guest.begin_build("other", volumes=[DATA])
    guest.build("third")
    with pytest.raises(Refused, match="is held by instance"):
        attach(guest, {"source": DATA, "shareable": True}, "attach-third", "third")

    guest.ask("instance.delete", "del", instance="third")
    assert read_held(guest) == before


def test_a_volume_that_all_say_is_shareable_is_shared(guest: Fleet) -> None:
    shared = {"source": DATA, "shareable": True}
    attach(guest, shared)
    assert guest.build("other", volumes=[shared]).phase is Phase.SUCCEEDED
    assert set(holders(guest, DATA).values()) == {"shared"}
    with pytest.raises(Refused, match="is held by"):
        guest.begin_build("third", volumes=[DATA])

    detach(guest, DATA)

    assert holders(guest, DATA) == {guest.instance("other").id: "shared"}
    assert len(connected(guest)) == 1


def test_the_same_name_on_two_hosts_is_two_volumes_when_it_lies_on_hosts(three_hosts: Fleet) -> None:
    for number in (1, 2):
        built = three_hosts.build(f"on-{number}", host=f"h{number}", volumes=["file:///srv/v.raw"])
        assert built.phase is Phase.SUCCEEDED
    with pytest.raises(Refused, match=r"file:///srv/v\.raw is held by"):
        three_hosts.begin_build("again", host="h1", volumes=["file:///srv/v.raw"])


def test_asked_again_for_what_is_so_there_is_nothing_to_do(guest: Fleet) -> None:
    attach(guest, DATA)
    answer = guest.answer("instance.attach_volume", "again", {"instance": "web", "volume": DATA})
    assert isinstance(answer, Already)
    assert answer.result["already"] is True

    with pytest.raises(Refused, match="is attached to web already, in another way"):
        attach(guest, {"source": DATA, "readonly": True}, "other-way")


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        ({"source": LOGS, "serial": "taken"}, "serial taken of web is that of rbd://volumes/data"),
        ({"source": LOGS, "device": "vdc"}, "device vdc of web is that of rbd://volumes/data"),
    ],
)
def test_two_volumes_have_neither_serial_nor_device_in_common(
    guest: Fleet, volume: dict[str, Any], sentence: str
) -> None:
    attach(guest, {"source": DATA, "serial": "taken", "device": "vdc"})
    with pytest.raises(Refused, match=sentence):
        attach(guest, volume, "second")


def test_a_device_name_of_the_guests_own_disks_is_refused_and_nothing_stays(guest: Fleet) -> None:
    before = read_hosts(guest)

    refused = attach(guest, {"source": DATA, "device": "vda"})

    assert refused.failure is not None
    assert refused.failure.message == "device: vda is that of the guest's root disk; ask for another, or none"
    assert (refused.phase, read_hosts(guest)) == (Phase.FAILED, before)
    assert (devices(guest), holders(guest, DATA)) == ({}, {})


def test_a_volume_that_is_not_there_is_not_detached(guest: Fleet) -> None:
    with pytest.raises(Refused, match="web has no volume of that source or serial; see `taskvisor volume list web`"):
        detach(guest, DATA)


def test_an_instance_has_no_more_volumes_than_this(fleet: Fleet) -> None:
    fleet.build(volumes=[f"rbd://volumes/{number}" for number in range(16)])
    with pytest.raises(Refused, match="web has 16 volumes, and may have no more"):
        attach(fleet, DATA)


def test_a_guest_that_does_not_let_go_keeps_its_volume_and_the_caller_is_told_why(guest: Fleet) -> None:
    attach(guest, DATA)
    deafen(guest)

    failed = detach(guest, DATA)

    assert (failed.phase, failed.failure and failed.failure.code) == (Phase.FAILED, "Refused")
    assert failed.failure is not None
    assert failed.failure.message.startswith(
        "guest web has not let go of vdb (rbd://volumes/data) in 160 s, so it stays"
    )
    assert 16 <= len([entry for entry in failed.timeline if entry.outcome == "Busy"]) <= 17
    guest.restart()
    assert (devices(guest), plugged(guest)) == ({DATA: "vdb"}, ["sda", "vda", "vdb"])
    assert holders(guest, DATA) == {guest.instance().id: "alone"}
    assert len(connected(guest)) == 1


def test_a_detach_that_is_cancelled_while_it_waits_leaves_the_volume_attached(guest: Fleet) -> None:
    attach(guest, DATA)
    deafen(guest)
    guest.begin("instance.detach_volume", "detach", instance="web", volume=DATA)
    guest.post.deliver(guest.post.chains[0])
    guest.door.cancel("detach")
    guest.post.deliver_all()

    assert guest.read("detach").phase is Phase.CANCELLED
    assert (devices(guest), plugged(guest)) == ({DATA: "vdb"}, ["sda", "vda", "vdb"])


def test_a_delete_in_the_midst_of_an_attachment_takes_the_connection_along(guest: Fleet) -> None:
    guest.begin("instance.attach_volume", "attach", instance="web", volume=DATA)
    guest.post.deliver(guest.post.chains[0])
    assert len(connected(guest)) == 1

    guest.ask("instance.delete", "del", instance="web")

    assert connected(guest) == ()
    assert read_held(guest) == {}


def test_a_volume_is_attached_to_nothing_that_another_operation_holds(guest: Fleet) -> None:
    guest.begin("instance.reboot", "reboot", instance="web", type="hard")
    with pytest.raises(Conflicting):
        attach(guest, DATA)
    assert holders(guest, DATA) == {}


def test_a_build_that_fails_gives_its_volumes_back(fleet: Fleet) -> None:
    failed = fleet.build(volumes=[DATA], image="file:///nowhere/x.qcow2")
    assert failed.phase is Phase.FAILED
    assert (connected(fleet), read_held(fleet)) == ((), {})


def test_a_guest_in_error_gets_no_volume(guest: Fleet) -> None:
    web: Instance = guest.instance()
    guest.store.admission.write_at_rest(web, replace(web, vm_state=VmState.ERROR), SAID_SO)
    with pytest.raises(Refused, match="attach_volume needs it to be one of: active, paused, stopped"):
        attach(guest, DATA)
