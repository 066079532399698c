"""What a lost store is told, out of what hosts have: who is believed, what is a conflict, and what is only said."""

from dataclasses import replace
from typing import Any

import pytest

from taskvisor.compute.rebuild import LeftOut, rebuild_for
from taskvisor.compute.rebuild_guest import recovered_from
from taskvisor.model.group_spec import default_group_for
from taskvisor.model.holdings import GuestHeld, HostHoldings, NetworkCopy
from taskvisor.model.ids import (
    FloatingId,
    HostName,
    OperationId,
    PortId,
    SecurityGroupId,
    instance_id_for,
    security_group_id_for,
)
from taskvisor.model.network import (
    Direction,
    FloatingAddress,
    IpFamily,
    Member,
    Network,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.observed import ConnectedVolume, DhcpFacts, DomainFacts, ImageFileFacts, LinkSeen
from taskvisor.model.rebuilding import ADVICE, ConflictKind, Present, Rebuild
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import ImageFormat, PowerState, VmState
from taskvisor.model.tuning import VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.support.records import NETWORK, image, instance, port

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")
OLD, NEW = 100.0, 200.0


def guest(record: Instance, power_state: PowerState = PowerState.RUNNING, **fields: Any) -> GuestHeld:
    """A guest whose domain, metadata and copy agree with the record."""
    domain = DomainFacts(instance_id=record.id, name="instance-x", power_state=power_state, boot_id=1, owned=True)
    whole: dict[str, Any] = {
        "domain": domain,
        "defined": record,
        "copy": record,
        "macs": tuple(one.mac for one in record.ports),
        "serials": tuple(volume.serial for volume in record.volumes),
    }
    return GuestHeld(instance_id=record.id, **{**whole, **fields})


def copy(told_at: float = OLD, network: Network = NETWORK, **around: Any) -> NetworkCopy:
    surroundings = Surroundings(network=network, **around)
    return NetworkCopy(network_id=network.id, told_at=told_at, around=surroundings)


def holdings(host: HostName, *guests: GuestHeld, **fields: Any) -> HostHoldings:
    empty: dict[str, Any] = {
        "images": (),
        "image_files": (),
        "networks": (copy(),),
        "links": (),
        "dhcp": (),
        "volumes": (),
    }
    return HostHoldings(host=host, looked_at=1.0, guests=guests, **{**empty, **fields})


def another(name: str, address: str = "10.152.0.3", **fields: Any) -> Instance:
    """A guest beside `web`, made after it."""
    operation = f"build-{name}"
    own = port(instance_id_for(OperationId(operation)), address=address)
    return instance(name, operation, **{"ports": (own,), "created_at": 2.0, **fields})


def kinds(found: Rebuild) -> list[tuple[ConflictKind, str]]:
    return [(conflict.kind, conflict.subject) for conflict in found.conflicts]


def test_a_guest_its_network_and_its_claim_are_written() -> None:
    web = instance()

    found = rebuild_for([holdings(H1, guest(web))], Present())

    assert (found.instances, found.networks, found.conflicts, found.notes) == ((web,), (NETWORK,), (), ())
    (claim,) = found.claims
    assert (claim.host, claim.instance_id, claim.resources) == (
        H1,
        web.id,
        Resources(vcpus=1, memory_mib=64, disk_gib=1),
    )


def test_what_is_there_is_not_written_again() -> None:
    web = instance()
    present = Present(
        instances=frozenset({web.id}),
        names={"web": web.id},
        networks={NETWORK.id: NETWORK},
        addresses={(NETWORK.id, web.ports[0].address): web.ports[0].id},
    )

    found = rebuild_for([holdings(H1, guest(web))], present)

    assert (found.writes_nothing, found.conflicts, found.silent) == (True, (), {})


@pytest.mark.parametrize(
    ("power_state", "vm_state"),
    [
        (PowerState.RUNNING, VmState.ACTIVE),
        (PowerState.PAUSED, VmState.PAUSED),
        (PowerState.SUSPENDED, VmState.SUSPENDED),
        (PowerState.SHUTDOWN, VmState.STOPPED),
        (PowerState.CRASHED, VmState.STOPPED),
    ],
)
def test_what_a_guest_does_the_hypervisor_says(power_state: PowerState, vm_state: VmState) -> None:
    found = recovered_from(guest(instance(), power_state), H1).instance

    assert found is not None
    assert (found.vm_state, found.power_state, found.task_state) == (vm_state, power_state, None)


@pytest.mark.parametrize("noted", [VmState.ERROR, VmState.SOFT_DELETED, VmState.RESCUED])
def test_a_state_that_no_hypervisor_knows_is_as_it_was_recorded(noted: VmState) -> None:
    web = instance(vm_state=noted)

    found = recovered_from(guest(web, PowerState.SHUTDOWN), H1).instance

    assert found is not None
    assert found.vm_state is noted


def test_of_ports_and_volumes_that_copy_and_metadata_tell_differently_the_domain_decides() -> None:
    web = instance()
    gone, came = port(web.id, 1, address="10.152.0.8"), port(web.id, 2, address="10.152.0.9")
    lost = VolumeAttachment(source="rbd://v/lost", serial="lost")
    new = VolumeAttachment(source="rbd://v/new", serial="new", format=ImageFormat.QCOW2)
    held = guest(
        web,
        copy=replace(web, ports=(*web.ports, gone), volumes=(lost,)),
        defined=replace(web, ports=(*web.ports, came), volumes=(new,)),
        macs=(web.ports[0].mac, came.mac),
        serials=("new",),
    )

    found = recovered_from(held, H1).instance

    assert found is not None
    assert (found.ports, found.volumes) == ((*web.ports, came), (new,))


def test_what_the_copy_says_of_a_port_is_newer_than_what_the_metadata_say() -> None:
    web = instance()
    grouped = replace(web.ports[0], security_groups=(SecurityGroupId("g"),))

    found = recovered_from(guest(web, copy=replace(web, ports=(grouped,))), H1).instance

    assert found is not None
    assert found.ports == (grouped,)


def test_a_nic_that_nobody_knows_a_port_for_is_told() -> None:
    web = instance()

    said = recovered_from(guest(web, macs=(web.ports[0].mac, "52:54:00:aa:bb:cc")), H1).remarks

    assert said == ("its domain has a NIC 52:54:00:aa:bb:cc that no port is known for",)


def test_a_guest_belongs_to_the_host_that_has_it() -> None:
    found = rebuild_for([holdings(H2, guest(instance()))], Present())

    assert [one.host for one in found.instances] == [H2]
    assert [claim.host for claim in found.claims] == [H2]
    assert [note.message for note in found.notes] == ["it says of itself that it is on host h1, and is on h2"]


def test_a_directory_beside_a_domain_elsewhere_is_told_and_left_alone() -> None:
    web = instance()
    left = GuestHeld(instance_id=web.id, copy=web)

    found = rebuild_for([holdings(H1, guest(web)), holdings(H2, left)], Present())

    assert (kinds(found), [one.host for one in found.instances]) == ([], [H1])
    assert [(note.host, "left alone" in note.message) for note in found.notes] == [(H2, True)]


def test_an_instance_on_two_hosts_is_neither_of_them() -> None:
    web = instance()
    told = [holdings(H1, guest(web)), holdings(H2, guest(web))]

    assert kinds(rebuild_for(told, Present())) == [(ConflictKind.TWO_HOSTS, web.id)]
    assert rebuild_for(told, Present()).instances == ()

    left = rebuild_for(told, Present(), LeftOut(subjects=frozenset({web.id})))
    assert (left.conflicts, left.instances) == ((), ())
    assert [one.addresses for one in left.reserved] == [web.ports[0].addresses]


def test_of_two_guests_with_one_name_address_or_mac_the_older_has_it() -> None:
    web = instance()
    named = instance("web", "build-web-2", ports=(), created_at=2.0)
    addressed = another("addressed", web.ports[0].address)
    alike = another("alike", "10.152.0.4")
    alike = replace(alike, ports=(replace(alike.ports[0], mac=web.ports[0].mac),))
    told = [holdings(H1, *map(guest, (alike, addressed, named, web)))]

    found = rebuild_for(told, Present())

    assert found.instances == (web,)
    assert set(kinds(found)) == {
        (ConflictKind.ADDRESS_TAKEN, addressed.id),
        (ConflictKind.MAC_TAKEN, alike.id),
        (ConflictKind.NAME_TAKEN, named.id),
    }


def test_a_volume_that_two_guests_hold_is_shared_by_both_or_is_a_conflict() -> None:
    def with_volume(record: Instance, *, shareable: bool) -> GuestHeld:
        tuning = VolumeTuning(shareable=shareable)
        return guest(replace(record, volumes=(VolumeAttachment(source="rbd://v/a", serial="a", tuning=tuning),)))

    web, db = instance(), another("db")
    alone = [holdings(H1, with_volume(web, shareable=True), with_volume(db, shareable=False))]
    shared = [holdings(H1, with_volume(web, shareable=True), with_volume(db, shareable=True))]

    assert kinds(rebuild_for(alone, Present())) == [(ConflictKind.VOLUME_HELD, db.id)]
    assert kinds(rebuild_for(shared, Present())) == []


def test_what_can_not_be_read_is_a_conflict_until_it_is_left_out() -> None:
    web = instance()
    told = [holdings(H1, guest(web, defined=None, copy=None, problem="its metadata have schema 9"))]

    found = rebuild_for(told, Present())
    assert kinds(found) == [(ConflictKind.UNREADABLE, web.id)]
    assert "its metadata have schema 9" in found.conflicts[0].message
    assert rebuild_for(told, Present(), LeftOut(subjects=frozenset({web.id}))).conflicts == ()


def test_metadata_that_can_not_be_read_do_no_harm_where_there_is_a_copy() -> None:
    web = instance()

    found = rebuild_for([holdings(H1, guest(web, defined=None, problem="no flavor"))], Present())

    assert (found.instances, kinds(found), [note.message for note in found.notes]) == ((web,), [], ["no flavor"])


def test_a_port_on_a_network_that_no_host_knows_is_a_conflict() -> None:
    web = instance()

    assert kinds(rebuild_for([holdings(H1, guest(web), networks=())], Present())) == [
        (ConflictKind.NETWORK_UNKNOWN, web.id)
    ]
    assert kinds(rebuild_for([holdings(H1, guest(web), networks=())], Present(networks={NETWORK.id: NETWORK}))) == []


def test_a_network_that_two_hosts_were_told_differently_is_a_conflict() -> None:
    other = replace(NETWORK, mtu=1400)
    told = [holdings(H1), holdings(H2, networks=(copy(NEW, other),))]

    found = rebuild_for(told, Present())

    assert kinds(found) == [(ConflictKind.NETWORK_DIFFERS, NETWORK.id)]
    assert "h1: default nat 10.152.0.0/16 10.152.0.1 MTU 1500; h2: default" in found.conflicts[0].message
    assert rebuild_for(told, Present(), LeftOut(hosts=frozenset({H1}))).networks == (other,)


def test_a_network_that_is_recorded_otherwise_than_hosts_were_told_stays_and_is_told() -> None:
    recorded = replace(NETWORK, cidr="10.99.0.0/16")

    found = rebuild_for([holdings(H1)], Present(networks={NETWORK.id: recorded}))

    assert (found.networks, found.conflicts) == ((), ())
    assert ["10.99.0.0/16" in note.message and "the record stays" in note.message for note in found.notes] == [True]


def test_of_a_group_and_a_floating_address_the_host_that_was_told_last_is_believed() -> None:
    web = instance()
    group = SecurityGroup(id=SecurityGroupId("g"), name="web")
    rule = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4, remote_group=SecurityGroupId("g"))
    changed = replace(group, rules=(rule,))
    bound = FloatingAddress(id=FloatingId("f"), address="203.0.113.7", port_id=web.ports[0].id)
    old = copy(OLD, groups=(group,), floating=(replace(bound, id=FloatingId("released"), address="203.0.113.8"),))
    new = copy(NEW, groups=(changed,), floating=(bound,))

    found = rebuild_for([holdings(H1, guest(web), networks=(old,)), holdings(H2, networks=(new,))], Present())

    assert found.groups == (changed,)
    assert [(one.floating, one.instance_id) for one in found.floating] == [(bound, web.id)]


def test_a_group_that_only_its_id_is_known_of_is_there_without_rules_and_told() -> None:
    grouped = replace(instance().ports[0], security_groups=(SecurityGroupId("gone"), security_group_id_for("default")))
    web = instance(ports=(grouped,))

    found = rebuild_for([holdings(H1, guest(web))], Present())

    assert found.groups == (
        default_group_for(security_group_id_for("default")),
        SecurityGroup(id=SecurityGroupId("gone"), name="gone"),
    )
    assert [note.subject for note in found.notes] == ["security group gone"]


def test_a_floating_address_of_a_guest_that_is_not_recorded_is_bound_when_that_comes_back() -> None:
    web = instance()
    bound = FloatingAddress(id=FloatingId("f"), address="203.0.113.7", port_id=web.ports[0].id)
    member = Member(port_id=web.ports[0].id, host=H1, mac=web.ports[0].mac, addresses=web.ports[0].addresses)
    network = copy(members=(member,), floating=(bound,))

    without = rebuild_for([holdings(H2, networks=(network,))], Present(), LeftOut(hosts=frozenset({H1})))
    assert [(one.floating.port_id, one.instance_id) for one in without.floating] == [(None, None)]
    assert [one.addresses for one in without.reserved] == [web.ports[0].addresses]

    present = Present(networks={NETWORK.id: NETWORK}, floating={bound.id: replace(bound, port_id=None)})
    back = rebuild_for([holdings(H1, guest(web), networks=(network,))], present)
    assert [(one.floating, one.instance_id) for one in back.floating] == [(bound, web.id)]


def test_a_host_that_others_know_and_that_did_not_tell_is_silent() -> None:
    def member(name: str, host: HostName) -> Member:
        return Member(port_id=PortId(name), host=host, mac=f"52:54:00:00:00:{name}", addresses=(f"10.152.0.{name}",))

    network = copy(members=(member("20", H2), member("21", H2), member("30", H3)))
    told = [holdings(H1, networks=(network,)), holdings(H3, networks=())]

    assert rebuild_for(told, Present()).silent == {H2: 2}  # H3 told, and has that guest no more
    without = rebuild_for(told, Present(), LeftOut(hosts=frozenset({H2})))
    assert (without.silent, [one.port_id for one in without.reserved]) == ({}, ["20", "21"])


def test_a_build_that_had_not_ended_is_no_instance() -> None:
    found = rebuild_for([holdings(H1, GuestHeld(instance_id=instance().id))], Present())

    assert (found.instances, found.conflicts, len(found.notes)) == ((), (), 1)


def test_an_image_is_registered_where_its_file_is_whole() -> None:
    whole = (ImageFileFacts(image_id=image().id, complete=True),)
    half = (ImageFileFacts(image_id=image().id, complete=False),)

    found = rebuild_for([holdings(H2, images=(image(),), image_files=whole)], Present())
    assert found.images == (replace(image(), host=H2),)
    assert rebuild_for([holdings(H2, images=(image(),), image_files=half)], Present()).images == ()
    nameless = rebuild_for([holdings(H2, image_files=whole)], Present())
    assert ["whose name nobody knows" in note.message for note in nameless.notes] == [True]
    taken = rebuild_for([holdings(H2, images=(image(),), image_files=whole)], Present(images={"gold": "other"}))
    assert kinds(taken) == [(ConflictKind.IMAGE_NAME_TAKEN, image().id)]


def test_what_is_on_a_host_besides_is_told_and_left_alone() -> None:
    web, stray = instance(), another("stray")
    told = holdings(
        H1,
        guest(web),
        foreign=("windows",),
        lost=("x can't be read",),
        links=(LinkSeen(name="tap1", instance_id=stray.id, port_id=stray.ports[0].id),),
        volumes=(ConnectedVolume(source="rbd://v/a", instance_id=stray.id),),
        dhcp=(DhcpFacts(bridge="b", mac=web.ports[0].mac, address="10.152.9.9", hostname="web"),),
    )

    found = rebuild_for([told], Present())

    assert [note.subject for note in found.notes] == ["domains", "copy", stray.id, stray.id, web.ports[0].mac]
    assert (found.conflicts, [one.name for one in found.instances]) == ((), ["web"])


def test_every_conflict_says_what_to_do() -> None:
    assert set(ADVICE) == set(ConflictKind)
