"""From what a build's spec says to the records it stands for."""

import pytest

from tasks.resolving import allocate_ports, instance_for, release_ports, resolve
from taskvisor.compute.placement import Ask
from taskvisor.compute.resources.kind import GuestWants
from taskvisor.model.errors import NoCapacity, Refused
from taskvisor.model.ids import HostName, OperationId, instance_id_for, mac_for, port_id_for
from taskvisor.model.records import Flavor, ImageSource, Resources
from taskvisor.model.spec import BuildSpec, parse_spec
from taskvisor.model.states import ImageFormat, PowerState, VmState
from tests.support.fleet import Fleet
from tests.support.world import read_everything, read_held

GUEST = instance_id_for(OperationId("op"))


def spec(**fields: object) -> BuildSpec:
    return parse_spec(BuildSpec, {"name": "web", "image": "/images/x", **fields})


def test_a_spec_stands_for_flavor_source_and_what_is_to_be_placed(fleet: Fleet) -> None:
    resolved = resolve(fleet.store, spec(flavor="c2-m64-d3", image_sha256="0" * 64, host="h1"))

    assert resolved.flavor == Flavor(name="c2-m64-d3", vcpus=2, memory_mib=64, disk_gib=3)
    assert (resolved.source, resolved.image) == (ImageSource(url="file:///images/x", sha256="0" * 64), None)
    assert resolved.ask == Ask(
        resources=Resources(vcpus=2, memory_mib=64, disk_gib=3),
        host=HostName("h1"),
        image_sha256="0" * 64,
        networks=(fleet.store.find_network("default"),),
        wants=GuestWants(flavor=resolved.flavor),
    )


def test_a_declared_format_goes_with_the_source(fleet: Fleet) -> None:
    resolved = resolve(fleet.store, spec(image_format="vmdk"))

    assert resolved.source == ImageSource(url="file:///images/x", format=ImageFormat.VMDK)


def test_a_registered_image_may_be_said_to_be_what_it_is_and_nothing_else(fleet: Fleet) -> None:
    fleet.build("first")
    fleet.ask("instance.snapshot", "snap", instance="first", image="gold")

    assert resolve(fleet.store, spec(image="gold", flavor="c1-m64-d1", image_format="qcow2")).image is not None
    with pytest.raises(Refused, match="image_format: image 'gold' is qcow2, not raw"):
        resolve(fleet.store, spec(image="gold", flavor="c1-m64-d1", image_format="raw"))


def test_a_registered_image_is_placed_where_it_lies(fleet: Fleet) -> None:
    fleet.build("first")
    fleet.ask("instance.snapshot", "snap", instance="first", image="gold")

    resolved = resolve(fleet.store, spec(image="gold", flavor="c1-m64-d1"))

    assert resolved.image == fleet.store.catalog.read_image("gold")
    assert (resolved.ask.image_host, resolved.source.sha256 is None) == ("h1", False)


def test_ports_are_allocated_in_nic_order_with_ids_and_macs_of_their_own(fleet: Fleet) -> None:
    wanted = {"network": "default", "mac": "52:54:00:00:00:01", "address": "10.152.0.9"}

    ports = allocate_ports(fleet.store, spec(networks=["default", wanted, "default"]), GUEST, 1.0)

    assert [(port.index, port.address, port.mac) for port in ports] == [
        (0, "10.152.0.2", mac_for(port_id_for(GUEST, 0))),
        (1, "10.152.0.9", "52:54:00:00:00:01"),
        (2, "10.152.0.3", mac_for(port_id_for(GUEST, 2))),
    ]
    assert allocate_ports(fleet.store, spec(networks=["default", wanted, "default"]), GUEST, 2.0) == ports


@pytest.mark.parametrize(
    "third",
    ["nosuch", {"network": "default", "address": "10.152.0.2"}, {"network": "default", "address": "10.99.0.1"}],
)
def test_when_one_port_is_refused_the_others_are_given_back(fleet: Fleet, third: object) -> None:
    with pytest.raises(Refused):
        allocate_ports(fleet.store, spec(networks=["default", "default", third]), GUEST, 1.0)

    assert not {name: held for name, held in read_held(fleet).items() if not name.startswith("network")}


def test_when_a_network_is_full_the_others_are_given_back(redis_url: str, fleet: Fleet) -> None:
    store = fleet.store
    tiny = type(store)(**{**vars(store), "default_network_cidr": "10.9.0.0/30"})  # one address for guests

    with pytest.raises(NoCapacity):
        allocate_ports(tiny, spec(networks=["default", "default"]), GUEST, 1.0)

    assert "addresses" not in "".join(read_held(fleet))


def test_ports_given_back_twice_are_given_back_once(fleet: Fleet) -> None:
    ports = allocate_ports(fleet.store, spec(), GUEST, 1.0)
    release_ports(fleet.store, ports)
    before = read_everything(fleet.client)

    release_ports(fleet.store, ports)

    assert read_everything(fleet.client) == before


def test_ports_of_an_instance_are_not_given_back_by_a_late_twin(fleet: Fleet) -> None:
    fleet.build("web", "op")
    before = read_everything(fleet.client)

    release_ports(fleet.store, fleet.instance().ports)

    assert read_everything(fleet.client) == before


def test_the_record_of_a_guest_that_is_to_be_built(fleet: Fleet) -> None:
    asked = spec(ssh_keys=["ssh-ed25519 AAAA"], user_data="#!/bin/sh", metadata={"a": "b"})
    resolved = resolve(fleet.store, asked)
    ports = allocate_ports(fleet.store, asked, GUEST, 1.0)

    record = instance_for(resolved, GUEST, HostName("h1"), ports, 7.0)

    assert (record.vm_state, record.task_state, record.power_state, record.virt_type) == (
        VmState.BUILDING,
        None,
        PowerState.NOSTATE,
        None,
    )
    assert (record.ssh_keys, record.user_data, record.metadata, record.ports, record.created_at) == (
        ("ssh-ed25519 AAAA",),
        "#!/bin/sh",
        {"a": "b"},
        ports,
        7.0,
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_properties": {"hw_disk_buss": "scsi"}}, "nearest one is hw_disk_bus"),
        (
            {"flavor": {"vcpus": 1, "memory_mib": 64, "extra_specs": {"hw:cpu_policy": "mixed"}}},
            "hw:cpu_dedicated_mask",
        ),
    ],
)
def test_what_no_guest_can_have_is_refused_at_the_door(fleet: Fleet, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        resolve(fleet.store, parse_spec(BuildSpec, {"name": "web", "image": "/srv/debian.qcow2", **fields}))


def test_what_was_asked_of_the_guest_is_in_its_record(fleet: Fleet) -> None:
    fields = {
        "name": "web",
        "image": "/srv/debian.qcow2",
        "image_properties": {"hw_disk_bus": "scsi"},
        "flavor": {"vcpus": 1, "memory_mib": 64, "extra_specs": {"hw:watchdog_action": "reset"}},
    }
    resolved = resolve(fleet.store, parse_spec(BuildSpec, fields))
    record = instance_for(resolved, GUEST, HostName("h1"), (), 7.0)
    assert record.image_properties == {"hw_disk_bus": "scsi"}
    assert record.flavor.extra_specs == {"hw:watchdog_action": "reset"}
