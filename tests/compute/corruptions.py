"""Things put wrong on a simulated fleet, each with the one code under which an audit must find it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from net.plan import vif_plan_for
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.finding import Code
from taskvisor.model.ids import (
    HostName,
    ImageId,
    InstanceId,
    OperationId,
    ServerGroupId,
    image_id_for,
    instance_id_for,
    network_id_for,
    security_group_id_for,
)
from taskvisor.model.network import Ipv6Mode, Network, NetworkKind, member_for
from taskvisor.model.observed import PlugPart
from taskvisor.model.plan import DiskBus, DiskContent, DiskLayout, DiskPlan, DiskRole, VifPlan
from taskvisor.model.records import Instance, Resources
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from taskvisor.model.volume import VolumeAttachment
from taskvisor.state.codec import encode
from tests.support import records
from tests.support.flavors import make_flavor
from tests.support.fleet import KEYS, PERIOD_S, Fleet, SimulatedHost
from tests.support.images import ImageDesk
from virt.simulated.image_file import read_image_file
from virt.stores.place import disk_place_for

H1, H2 = HostName("h1"), HostName("h2")
GHOST = instance_id_for(OperationId("build-ghost"))
NOBODY = OperationId("nobody")
DUAL = Network(
    id=network_id_for("dual"),
    name="dual",
    kind=NetworkKind.NAT,
    cidr="10.7.0.0/24",
    gateway="10.7.0.1",
    cidr6="fd00:7::/64",
    gateway6="fd00:7::1",
    ipv6_mode=Ipv6Mode.DHCPV6,
)
VOLUME = "nfs://filer/export/web.raw"


def healthy(fleet: Fleet) -> Fleet:
    """A guest that runs, one that is off, and a snapshot of the first."""
    fleet.build("web", volumes=[VOLUME])
    fleet.build("off")
    fleet.ask("instance.stop", "stop-off", instance="off", timeout_s=0)
    fleet.ask("instance.snapshot", "snap-web", instance="web", image="gold")
    return fleet


def host(fleet: Fleet, name: HostName = H1) -> SimulatedHost:
    return fleet.hosts[name]


def as_ghost(text: str, fleet: Fleet) -> str:
    """The XML of web, of another instance."""
    web = fleet.instance().id
    return text.replace(web, GHOST).replace(f"instance-{web[:13]}", f"instance-{GHOST[:13]}")


def xml_of_web(fleet: Fleet) -> str:
    return str(fleet.read("build-web").facts["render_xml"]["xml"])


def vif_of_ghost(fleet: Fleet) -> VifPlan:
    return vif_of(fleet, GHOST, 0)


def vif_of(fleet: Fleet, instance_id: InstanceId, index: int) -> VifPlan:
    port = records.port(instance_id, index, address="10.152.7.7")
    return vif_plan_for(port, fleet.store.find_network("default"), hostname="ghost")


def lease_file(fleet: Fleet, tap: str) -> Path:
    (found,) = (host(fleet).root / "leases").rglob(f"{tap}.json")
    return found


def tap_of(instance: Instance) -> str:
    return f"tap{instance.ports[0].id[:11]}"


def rewrite(fleet: Fleet, **changes: Any) -> None:
    """The record of web says something else."""
    web = fleet.instance()
    fleet.client.set(KEYS.instance(web.id), encode(replace(web, **changes)))


def net(fleet: Fleet) -> str:
    return fleet.instance().ports[0].network_id


def a_domain_of_ours_is_defined_by_hand(fleet: Fleet) -> None:
    host(fleet).ports.hypervisor.ensure_defined(GHOST, as_ghost(xml_of_web(fleet), fleet))


def the_domain_is_removed(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_domain_gone(fleet.instance().id)


def the_domain_of_the_guest_that_is_off_is_removed(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_domain_gone(fleet.instance("off").id)


def the_guest_switches_itself_off(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_power_state(fleet.instance().id, PowerState.SHUTDOWN)


def with_more_memory(xml: str) -> str:
    return xml.replace("65536</memory>", "131072</memory>")


def the_definition_is_edited(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_defined_with(fleet.instance().id, with_more_memory)


def the_definition_of_the_guest_that_is_off_is_edited(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_defined_with(fleet.instance("off").id, with_more_memory)


def the_running_guest_is_changed(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_running_with(fleet.instance().id, with_more_memory)


def the_guest_can_no_longer_be_rendered(fleet: Fleet) -> None:
    flavor = fleet.instance().flavor
    rewrite(fleet, flavor=replace(flavor, extra_specs={"hw:numa_nodes": "2", "hw:numa_cpus.0": "0"}))


def disk_of_web(fleet: Fleet, role: DiskRole) -> Path:
    return Path(layout_of_web(fleet).disk(role).path)


def layout_of_web(fleet: Fleet) -> DiskLayout:
    return msgspec.convert(fleet.read("build-web").facts["prepare_disk"]["layout"], DiskLayout)


def the_root_disk_is_removed(fleet: Fleet) -> None:
    disk_of_web(fleet, DiskRole.ROOT).unlink()


def the_seed_is_removed(fleet: Fleet) -> None:
    disk_of_web(fleet, DiskRole.SEED).unlink()


def the_root_disk_is_grown_by_hand(fleet: Fleet) -> None:
    path = disk_of_web(fleet, DiskRole.ROOT)
    image = read_image_file(path)
    path.write_bytes(msgspec.json.encode(replace(image, virtual_bytes=image.virtual_bytes * 2)))


def the_image_below_the_disks_is_removed(fleet: Fleet) -> None:
    Path(read_image_file(disk_of_web(fleet, DiskRole.ROOT)).made_from).unlink()


def a_directory_of_ours_is_left(fleet: Fleet) -> None:
    directory = f"{host(fleet).ports.limits.instances_dir}/{GHOST}"
    layout = DiskLayout(directory=directory, console_log=f"{directory}/console.log", disks=())
    host(fleet).ports.disks.ensure_directory(layout, GHOST)


def the_directory_is_removed(fleet: Fleet) -> None:
    host(fleet).ports.disks.ensure_removed(fleet.instance("off").id)


def a_disk_is_left_in_a_shared_pool(fleet: Fleet) -> None:
    place = disk_place_for(
        DiskBackend(kind=BackendKind.RBD, pool="guests"), instance_id=GHOST, directory="", file_name="disk.swap"
    )
    disk = DiskPlan(
        role=DiskRole.SWAP,
        path=place.path,
        format=place.format,
        bus=DiskBus.VIRTIO,
        device="vdb",
        size_bytes=1 << 20,
        storage=place.storage,
        content=DiskContent.SWAP,
    )
    host(fleet).ports.disks.ensure_data_disk(disk)


def a_link_of_ours_is_left(fleet: Fleet) -> None:
    vif = vif_of_ghost(fleet)
    host(fleet).ports.fabric.ensure_plugged(vif)
    lease_file(fleet, vif.tap).unlink()


def a_link_of_a_nic_that_is_not_there_is_left(fleet: Fleet) -> None:
    vif = vif_of(fleet, fleet.instance().id, 1)
    host(fleet).ports.fabric.ensure_plugged(vif)
    lease_file(fleet, vif.tap).unlink()


def the_link_is_removed(fleet: Fleet) -> None:
    host(fleet).neighbour.ensure_foreign_link_gone(tap_of(fleet.instance()))


def the_filters_are_flushed(fleet: Fleet) -> None:
    host(fleet).neighbour.ensure_lost(tap_of(fleet.instance()), PlugPart.FILTER)


def the_metadata_server_dies(fleet: Fleet) -> None:
    host(fleet).neighbour.ensure_lost(tap_of(fleet.instance()), PlugPart.METADATA)


def the_link_is_taken_from_its_guest(fleet: Fleet) -> None:
    host(fleet).neighbour.ensure_lost(tap_of(fleet.instance()), PlugPart.GUEST)


def a_dhcp_entry_is_left(fleet: Fleet) -> None:
    vif = vif_of_ghost(fleet)
    host(fleet).ports.fabric.ensure_plugged(vif)
    host(fleet).neighbour.ensure_foreign_link_gone(vif.tap)


def the_dhcp_entry_is_removed(fleet: Fleet) -> None:
    lease_file(fleet, tap_of(fleet.instance())).unlink()


def a_copy_of_a_disk_is_left(fleet: Fleet) -> None:
    Path(host(fleet).ports.disks.snapshot_path(ImageId(GHOST))).write_text("half")


def the_image_is_removed(fleet: Fleet) -> None:
    host(fleet).ports.disks.ensure_unpublished(image_id_for(OperationId("snap-web")))


def an_image_that_is_to_go_is_forgotten(fleet: Fleet) -> None:
    ImageDesk(fleet).delete("gold")
    fleet.clock.sleep(600.0)


def the_host_falls_silent(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.alive(H1))


def the_host_was_called_dead(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.host(H1), "forced_down", '{"reason": "no power", "by": "ann", "at": 1.0}')


def a_claim_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.claims(H1), GHOST, '{"vcpus": 1, "memory_mib": 0, "disk_gib": 0}')
    fleet.client.hincrby(KEYS.used(H1), "vcpus", 1)


def a_claim_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.claims(H1), fleet.instance().id)
    for kind, amount in (("vcpus", 1), ("memory_mib", 64), ("disk_gib", 1)):
        fleet.client.hincrby(KEYS.used(H1), kind, -amount)


def the_sum_of_the_claims_is_wrong(fleet: Fleet) -> None:
    fleet.client.hincrby(KEYS.used(H1), "memory_mib", 1)


def the_host_shrinks(fleet: Fleet) -> None:
    fleet.store.hosts.write_inventory(H1, records.inventory(memory_mib=100))


def a_name_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.names, "ghost", GHOST)


def a_name_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.names, "web")


def the_record_says_that_something_is_being_done(fleet: Fleet) -> None:
    rewrite(fleet, task_state=TaskState.SPAWNING)


def an_address_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.addresses(net(fleet)), "10.152.7.7", "no-port")


def an_address_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.addresses(net(fleet)), fleet.instance().addresses[0])


def a_port_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.addresses(net(fleet)), "10.152.7.7", "no-port")
    fleet.client.hset(KEYS.ports(net(fleet)), "no-port", "10.152.7.7")


def a_port_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.ports(net(fleet)), fleet.instance().ports[0].id)


def a_mac_is_lost(fleet: Fleet) -> None:
    port = fleet.instance().ports[0]
    fleet.client.hdel(KEYS.macs, f"{port.network_id} {port.mac}")


def a_mac_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.macs, f"{net(fleet)} 52:54:00:00:00:01", "no-port")


def an_address_is_given_to_another_port_too(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.ports(net(fleet)), "other-port", fleet.instance().addresses[0])
    fleet.client.zadd(KEYS.allocating, {f"{net(fleet)} other-port 52:54:00:00:00:01": fleet.clock.now()})


def with_ipv6(fleet: Fleet) -> Instance:
    """A guest on a network that has IPv6."""
    fleet.store.networks.ensure(DUAL)
    fleet.build("dual", networks=["dual"])
    return fleet.instance("dual")


def address6_of(instance: Instance) -> str:
    return str(instance.ports[0].address6)


def an_ipv6_address_is_left(fleet: Fleet) -> None:
    with_ipv6(fleet)
    fleet.client.hset(KEYS.addresses6(DUAL.id), "fd00:7::77", "no-port")


def an_ipv6_address_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.addresses6(DUAL.id), address6_of(with_ipv6(fleet)))


def an_ipv6_port_is_left(fleet: Fleet) -> None:
    with_ipv6(fleet)
    fleet.client.hset(KEYS.addresses6(DUAL.id), "fd00:7::77", "no-port")
    fleet.client.hset(KEYS.ports6(DUAL.id), "no-port", "fd00:7::77")


def an_ipv6_port_is_lost(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.ports6(DUAL.id), with_ipv6(fleet).ports[0].id)


def an_ipv6_address_is_given_to_another_port_too(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.ports6(DUAL.id), "other-port", address6_of(with_ipv6(fleet)))
    fleet.client.zadd(KEYS.allocating, {f"{DUAL.id} other-port 52:54:00:00:00:01": fleet.clock.now()})


def a_port_is_no_member_of_its_network(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.members(net(fleet)), fleet.instance().ports[0].id)


def a_member_is_said_to_be_elsewhere(fleet: Fleet) -> None:
    port = fleet.instance().ports[0]
    fleet.client.hset(KEYS.members(net(fleet)), port.id, encode(member_for(port, H2)))


def a_port_is_in_no_group_that_it_is_recorded_in(fleet: Fleet) -> None:
    port = fleet.instance().ports[0]
    fleet.client.hdel(KEYS.grouped(port.security_groups[0]), port.id)


def the_places_of_an_instances_ports_are_lost(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.nics(fleet.instance().id))


def a_member_is_left(fleet: Fleet) -> None:
    ghost = records.port(GHOST, 0, address="10.152.7.7")
    fleet.client.hset(KEYS.members(net(fleet)), ghost.id, encode(member_for(ghost, H1)))


def a_member_of_a_group_is_left(fleet: Fleet) -> None:
    port = fleet.instance().ports[0]
    member = encode(member_for(port, H1))
    fleet.client.hset(KEYS.grouped(security_group_id_for("left")), port.id, f"{port.network_id} {member}")


def a_place_of_a_port_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.nics(GHOST), "no-port", net(fleet))


def an_allocation_is_forgotten(fleet: Fleet) -> None:
    fleet.client.zadd(KEYS.allocating, {f"{net(fleet)} no-port 52:54:00:00:00:01": fleet.clock.now() - 661})


def a_port_in_use_is_noted_as_being_allocated(fleet: Fleet) -> None:
    port = fleet.instance().ports[0]
    fleet.client.zadd(KEYS.allocating, {f"{port.network_id} {port.id} {port.mac}": fleet.clock.now()})


def a_lease_is_held_by_nobody(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.lease(fleet.instance().id), mapping={"op": NOBODY, "token": 1})


def a_lease_is_held_by_an_operation_that_has_ended(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.lease(fleet.instance().id), mapping={"op": "build-web", "token": 1})


def a_lease_is_held_by_an_operation_on_another_instance(fleet: Fleet) -> None:
    holder = fleet.begin_build("mid")
    fleet.client.hset(KEYS.lease(fleet.instance().id), mapping={"op": holder.id, "token": 0})


def an_operation_loses_its_lease(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.lease(fleet.begin_build("mid").instance_id))


def an_operation_loses_its_instance(fleet: Fleet) -> None:
    ghost = records.operation("about-nobody", records.instance("ghost", "build-ghost"), updated_at=fleet.clock.now())
    fleet.client.hset(KEYS.operation(ghost.id), mapping={"rev": 0, "doc": encode(ghost)})
    fleet.client.zadd(KEYS.operations, {ghost.id: 1.0})
    fleet.client.zadd(KEYS.unsettled, {ghost.id: 1.0})
    fleet.client.sadd(KEYS.operations_on(H1), ghost.id)
    fleet.client.hset(KEYS.lease(GHOST), mapping={"op": ghost.id, "token": 0})


def nobody_carries_an_operation_on(fleet: Fleet) -> None:
    fleet.begin_build("mid")
    fleet.post.chains.clear()
    fleet.clock.sleep(4 * PERIOD_S + 0.1)


def a_message_is_lost_again_and_again(fleet: Fleet) -> None:
    fleet.begin_build("mid")
    for _ in range(8):
        fleet.post.chains.clear()
        fleet.clock.sleep(PERIOD_S)
        fleet.sweep.run()
    fleet.clock.sleep(1)


def the_runner_of_a_step_is_dead(fleet: Fleet) -> None:
    web, now = fleet.instance(), fleet.clock.now()
    begun = fleet.begin("instance.reboot", "dead-reboot", instance="web")
    runner = {"host": "h1", "incarnation": "former", "pid": 1}
    ran = document_of(begun, runner=runner, runner_since=now, runner_until=now + 60)
    fleet.client.hset(KEYS.operation(begun.id), "doc", ran)
    fleet.post.chains.clear()
    fleet.clock.sleep(4 * PERIOD_S + 1)
    assert web.id == begun.instance_id


def an_operation_waits_for_nobody(fleet: Fleet) -> None:
    begun = fleet.begin("instance.delete", "waits", instance="off")
    fleet.post.chains.clear()
    fleet.client.hset(KEYS.operation(begun.id), "doc", document_of(begun, phase=Phase.WAITING))


def an_operation_is_stuck(fleet: Fleet) -> None:
    host(fleet).outsider.ensure_foreign_directory(instance_id_for(OperationId("build-stuck")))
    assert fleet.build("stuck").phase is Phase.STUCK


def an_image_name_is_left(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.images, "silver", NOBODY)


def an_image_name_is_kept_for_an_operation_that_has_ended(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.images, "silver", "build-web")


def an_instance_is_not_listed(fleet: Fleet) -> None:
    fleet.client.srem(KEYS.instances, fleet.instance().id)


def an_operation_is_not_swept(fleet: Fleet) -> None:
    fleet.client.zrem(KEYS.unsettled, fleet.begin_build("mid").id)


def an_operation_is_not_relaunched(fleet: Fleet) -> None:
    fleet.client.srem(KEYS.operations_on("h1"), fleet.begin_build("mid").id)


def an_operation_is_not_shown(fleet: Fleet) -> None:
    fleet.client.zrem(KEYS.operations, fleet.begin_build("mid").id)


def an_operation_that_has_ended_is_swept(fleet: Fleet) -> None:
    fleet.client.zadd(KEYS.unsettled, {"build-web": 1.0})


def an_operation_is_listed_as_stuck(fleet: Fleet) -> None:
    fleet.client.sadd(KEYS.stuck, "build-web")


def the_host_is_not_listed(fleet: Fleet) -> None:
    fleet.client.srem(KEYS.hosts, "h1")


def an_image_is_not_listed(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.images, "gold")


def the_network_is_not_listed(fleet: Fleet) -> None:
    fleet.client.hdel(KEYS.networks, "default")


def a_flavor_is_not_listed(fleet: Fleet) -> None:
    make_flavor(fleet, "own")
    fleet.client.hdel(KEYS.flavors, "own")


def a_flavors_id_is_not_listed(fleet: Fleet) -> None:
    make_flavor(fleet, "own")
    fleet.client.hdel(KEYS.flavor_ids, "id-of-own")


def a_flavor_is_listed_that_is_not_there(fleet: Fleet) -> None:
    make_flavor(fleet, "own")
    fleet.client.hset(KEYS.flavors, "ghost", "1")


def a_flavors_id_is_listed_that_is_not_there(fleet: Fleet) -> None:
    make_flavor(fleet, "own")
    fleet.client.hset(KEYS.flavor_ids, "1", "ghost")


def a_history_is_left(fleet: Fleet) -> None:
    fleet.client.rename(KEYS.history(fleet.instance().id), KEYS.history(GHOST))


def a_member_of_a_server_group_is_gone(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.servers("g1"), GHOST, H1)


def an_instance_is_not_a_member_of_its_server_group(fleet: Fleet) -> None:
    in_group(fleet)


def a_member_of_a_server_group_is_noted_elsewhere(fleet: Fleet) -> None:
    in_group(fleet)
    fleet.client.hset(KEYS.servers("g1"), fleet.instance().id, H2)


def in_group(fleet: Fleet) -> None:
    """The record of web says that it is in a server group."""
    web = replace(fleet.instance(), server_group=ServerGroupId("g1"))
    fleet.client.set(KEYS.instance(web.id), encode(web))


def an_instance_is_garbled(fleet: Fleet) -> None:
    fleet.client.set(KEYS.instance(fleet.instance().id), "{")


def an_operation_is_garbled(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.operation(fleet.begin_build("mid").id), "doc", "{")


def an_index_is_of_another_type(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.instances)
    fleet.client.set(KEYS.instances, "all of them")


def the_list_of_operations_is_of_another_type(fleet: Fleet) -> None:
    fleet.begin_build("mid")
    fleet.client.delete(KEYS.operations)
    fleet.client.set(KEYS.operations, "all of them")


def a_claim_is_garbled(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.claims(H1), fleet.instance().id, "much")


def a_message_was_malformed(fleet: Fleet) -> None:
    fleet.client.lpush("host.h1.dead", '{"reason": "no JSON"}')


def a_volume_is_held_by_nobody(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.volume("rbd://volumes/left"), GHOST, "alone")


def a_volume_is_not_held(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.volume(VOLUME))


def a_volume_is_held_by_two(fleet: Fleet) -> None:
    off = replace(fleet.instance("off"), vm_state=VmState.ERROR)  # at rest it would be one that drifts, too
    fleet.client.hset(KEYS.volume(VOLUME), off.id, "alone")
    fleet.client.set(KEYS.instance(off.id), encode(replace(off, volumes=fleet.instance().volumes)))


def a_connection_is_left(fleet: Fleet) -> None:
    volume = VolumeAttachment(source="rbd://volumes/left", serial="left")
    host(fleet).ports.volumes.ensure_connected(volume, GHOST)


def a_connection_of_a_volume_that_it_has_no_more_is_left(fleet: Fleet) -> None:
    volume = VolumeAttachment(source="rbd://volumes/left", serial="left")
    host(fleet).ports.volumes.ensure_connected(volume, fleet.instance().id)


def a_connection_is_lost(fleet: Fleet) -> None:
    host(fleet).ports.volumes.ensure_disconnected(VOLUME, fleet.instance().id)


def document_of(of: Any, **changes: Any) -> str:
    """The operation's document, with these fields."""
    return msgspec.json.encode({**msgspec.to_builtins(of), **changes}).decode()


def a_thing_is_left_held(fleet: Fleet) -> None:
    """A thing is held for an instance that there is no record of."""
    fleet.client.hset(KEYS.held(H1), "cpu:7", GHOST)


def _say_of_itself(fleet: Fleet, **said: Any) -> None:
    inventory = fleet.store.hosts.list_hosts()[0].inventory
    assert inventory is not None
    fleet.store.hosts.write_inventory(H1, replace(inventory, **said))


def a_host_says_what_cannot_be(fleet: Fleet) -> None:
    """The host says of itself what can't be."""
    _say_of_itself(fleet, problems=("it says that it has 0 CPUs",), limits=Resources())


def a_host_has_seen_a_guest_of_another_size(fleet: Fleet) -> None:
    """The host has seen a guest of another size than recorded, look after look."""
    _say_of_itself(fleet, remarks=("web has 128 MiB, its flavor 64",))


CORRUPTIONS: list[tuple[Callable[[Fleet], None], Code]] = [
    (a_domain_of_ours_is_defined_by_hand, Code.DOMAIN_WITHOUT_RECORD),
    (the_domain_is_removed, Code.DOMAIN_MISSING),
    (the_domain_of_the_guest_that_is_off_is_removed, Code.DOMAIN_MISSING),
    (the_guest_switches_itself_off, Code.POWER_DIFFERS),
    (the_definition_is_edited, Code.GUEST_DRIFTED),
    (the_definition_of_the_guest_that_is_off_is_edited, Code.GUEST_DRIFTED),
    (the_running_guest_is_changed, Code.GUEST_DRIFTED),
    (the_guest_can_no_longer_be_rendered, Code.GUEST_DRIFTED),
    (the_root_disk_is_removed, Code.DISK_DRIFTED),
    (the_seed_is_removed, Code.DISK_DRIFTED),
    (the_root_disk_is_grown_by_hand, Code.DISK_DRIFTED),
    (a_directory_of_ours_is_left, Code.DIRECTORY_WITHOUT_RECORD),
    (the_directory_is_removed, Code.DIRECTORY_MISSING),
    (a_disk_is_left_in_a_shared_pool, Code.DISK_WITHOUT_RECORD),
    (a_link_of_ours_is_left, Code.LINK_WITHOUT_RECORD),
    (a_link_of_a_nic_that_is_not_there_is_left, Code.LINK_WITHOUT_RECORD),
    (the_link_is_removed, Code.LINK_MISSING),
    (the_filters_are_flushed, Code.FILTER_MISSING),
    (the_link_is_taken_from_its_guest, Code.LINK_NOT_OPEN),
    (a_dhcp_entry_is_left, Code.DHCP_WITHOUT_RECORD),
    (the_dhcp_entry_is_removed, Code.DHCP_MISSING),
    (the_metadata_server_dies, Code.METADATA_MISSING),
    (a_copy_of_a_disk_is_left, Code.IMAGE_FILE_WITHOUT_RECORD),
    (the_image_is_removed, Code.IMAGE_FILE_MISSING),
    (an_image_that_is_to_go_is_forgotten, Code.IMAGE_DELETION_OVERDUE),
    (the_host_falls_silent, Code.HOST_SILENT),
    (the_host_was_called_dead, Code.HOST_FORCED_DOWN_SPEAKS),
    (a_claim_is_left, Code.CLAIM_WITHOUT_INSTANCE),
    (a_thing_is_left_held, Code.CLAIM_WITHOUT_INSTANCE),
    (a_host_says_what_cannot_be, Code.HOST_MARKED),
    (a_host_has_seen_a_guest_of_another_size, Code.USAGE_DIFFERS),
    (a_claim_is_lost, Code.INSTANCE_WITHOUT_CLAIM),
    (the_sum_of_the_claims_is_wrong, Code.USED_DIFFERS),
    (the_host_shrinks, Code.CLAIM_BEYOND_CAPACITY),
    (a_name_is_left, Code.NAME_WITHOUT_INSTANCE),
    (a_name_is_lost, Code.INSTANCE_WITHOUT_NAME),
    (the_record_says_that_something_is_being_done, Code.INSTANCE_WITHOUT_OPERATION),
    (an_ipv6_address_is_left, Code.ADDRESS_WITHOUT_PORT),
    (an_ipv6_address_is_lost, Code.PORT_WITHOUT_ADDRESS),
    (an_ipv6_port_is_left, Code.PORT_WITHOUT_INSTANCE),
    (an_ipv6_port_is_lost, Code.INSTANCE_WITHOUT_PORT),
    (an_ipv6_address_is_given_to_another_port_too, Code.ADDRESS_HELD_TWICE),
    (a_port_is_no_member_of_its_network, Code.MEMBER_DIFFERS),
    (a_member_is_said_to_be_elsewhere, Code.MEMBER_DIFFERS),
    (a_port_is_in_no_group_that_it_is_recorded_in, Code.MEMBER_DIFFERS),
    (the_places_of_an_instances_ports_are_lost, Code.MEMBER_DIFFERS),
    (a_member_is_left, Code.MEMBER_WITHOUT_PORT),
    (a_member_of_a_group_is_left, Code.MEMBER_WITHOUT_PORT),
    (a_place_of_a_port_is_left, Code.MEMBER_WITHOUT_PORT),
    (an_address_is_left, Code.ADDRESS_WITHOUT_PORT),
    (an_address_is_lost, Code.PORT_WITHOUT_ADDRESS),
    (a_port_is_left, Code.PORT_WITHOUT_INSTANCE),
    (a_port_is_lost, Code.INSTANCE_WITHOUT_PORT),
    (a_mac_is_lost, Code.INSTANCE_WITHOUT_PORT),
    (a_mac_is_left, Code.MAC_WITHOUT_PORT),
    (an_address_is_given_to_another_port_too, Code.ADDRESS_HELD_TWICE),
    (an_allocation_is_forgotten, Code.ALLOCATION_FORGOTTEN),
    (a_port_in_use_is_noted_as_being_allocated, Code.ALLOCATION_OF_INSTANCE),
    (a_lease_is_held_by_nobody, Code.LEASE_WITHOUT_OPERATION),
    (a_lease_is_held_by_an_operation_that_has_ended, Code.LEASE_WITHOUT_OPERATION),
    (a_lease_is_held_by_an_operation_on_another_instance, Code.LEASE_WITHOUT_OPERATION),
    (an_operation_loses_its_lease, Code.OPERATION_WITHOUT_LEASE),
    (an_operation_loses_its_instance, Code.OPERATION_WITHOUT_INSTANCE),
    (nobody_carries_an_operation_on, Code.OPERATION_OVERDUE),
    (a_message_is_lost_again_and_again, Code.OPERATION_OVERDUE),
    (the_runner_of_a_step_is_dead, Code.OPERATION_OVERDUE),
    (an_operation_waits_for_nobody, Code.OPERATION_OVERDUE),
    (an_operation_is_stuck, Code.OPERATION_STUCK),
    (an_image_name_is_left, Code.IMAGE_NAME_WITHOUT_IMAGE),
    (an_image_name_is_kept_for_an_operation_that_has_ended, Code.IMAGE_NAME_WITHOUT_IMAGE),
    (a_volume_is_held_by_nobody, Code.VOLUME_HOLD_LEFT),
    (a_volume_is_not_held, Code.VOLUME_NOT_HELD),
    (a_volume_is_held_by_two, Code.VOLUME_HELD_TWICE),
    (a_connection_is_left, Code.CONNECTION_WITHOUT_RECORD),
    (a_connection_of_a_volume_that_it_has_no_more_is_left, Code.CONNECTION_WITHOUT_RECORD),
    (a_connection_is_lost, Code.CONNECTION_MISSING),
    (an_instance_is_not_listed, Code.INDEX_DIFFERS),
    (an_operation_is_not_swept, Code.INDEX_DIFFERS),
    (an_operation_is_not_relaunched, Code.INDEX_DIFFERS),
    (an_operation_is_not_shown, Code.INDEX_DIFFERS),
    (an_operation_that_has_ended_is_swept, Code.INDEX_DIFFERS),
    (an_operation_is_listed_as_stuck, Code.INDEX_DIFFERS),
    (the_host_is_not_listed, Code.INDEX_DIFFERS),
    (an_image_is_not_listed, Code.INDEX_DIFFERS),
    (the_network_is_not_listed, Code.INDEX_DIFFERS),
    (a_flavor_is_not_listed, Code.INDEX_DIFFERS),
    (a_flavors_id_is_not_listed, Code.INDEX_DIFFERS),
    (a_flavor_is_listed_that_is_not_there, Code.INDEX_DIFFERS),
    (a_flavors_id_is_listed_that_is_not_there, Code.INDEX_DIFFERS),
    (a_history_is_left, Code.INDEX_DIFFERS),
    (a_member_of_a_server_group_is_gone, Code.INDEX_DIFFERS),
    (an_instance_is_not_a_member_of_its_server_group, Code.INDEX_DIFFERS),
    (a_member_of_a_server_group_is_noted_elsewhere, Code.INDEX_DIFFERS),
    (an_instance_is_garbled, Code.RECORD_UNREADABLE),
    (an_operation_is_garbled, Code.RECORD_UNREADABLE),
    (an_index_is_of_another_type, Code.RECORD_UNREADABLE),
    (the_list_of_operations_is_of_another_type, Code.RECORD_UNREADABLE),
    (a_claim_is_garbled, Code.RECORD_UNREADABLE),
    (a_message_was_malformed, Code.DEAD_LETTERS),
]
