"""docs/rebuild.md names every field of what is read back, and each that it says is kept comes back from where it is kept."""

import re
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from net.kept_surroundings import KeptSurroundings
from taskvisor.compute.rebuild_guest import recovered_from
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.holdings import GuestHeld
from taskvisor.model.ids import (
    FloatingId,
    HostName,
    ImageId,
    NetworkId,
    OperationId,
    PortId,
    SecurityGroupId,
    ServerGroupId,
    instance_id_for,
)
from taskvisor.model.network import (
    AddressPair,
    Bandwidth,
    Direction,
    FloatingAddress,
    IpFamily,
    Ipv6Mode,
    Network,
    NetworkKind,
    Port,
    Qos,
    Route,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.numa import GuestPlace
from taskvisor.model.observed import DomainFacts
from taskvisor.model.plan import DiskBus
from taskvisor.model.records import Deletion, Fault, Flavor, Image, ImageSource, Instance
from taskvisor.model.states import ImageFormat, PowerState, SeedKind, TaskState, VirtType, VmState
from taskvisor.model.tuning import VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.fixtures.machine import ROOT
from virt.kept_records import KeptRecords

PAGE = (ROOT / "docs" / "rebuild.md").read_text()
KEPT, LOST = PAGE[PAGE.index("## Where each") : PAGE.index("## What can't")], PAGE[PAGE.index("## What can't") :]
ROW = re.compile(r"^\| `([A-Z]\w+\.\w+)` \|", re.MULTILINE)
KINDS = (Instance, Port, Network, SecurityGroup, FloatingAddress, Image, VolumeAttachment)

GUEST = instance_id_for(OperationId("build-web"))
FLAVOR = Flavor(name="f", vcpus=2, memory_mib=64, disk_gib=1, swap_mib=2, ephemeral_gib=3, extra_specs={"a": "b"})
SOURCE = ImageSource(url="file:///a", sha256="0" * 64, format=ImageFormat.RAW)
VOLUME = VolumeAttachment(
    source="rbd://volumes/a",
    serial="s",
    format=ImageFormat.QCOW2,
    device="vdb",
    bus=DiskBus.SCSI,
    boot_index=1,
    tuning=VolumeTuning(shareable=True),
)
PORT = Port(
    id=PortId("p"),
    instance_id=GUEST,
    network_id=NetworkId("n"),
    network="lan",
    index=3,
    mac="52:54:00:00:00:01",
    address="10.0.0.5",
    address6="fd00::5",
    security_groups=(SecurityGroupId("g"),),
    allowed_pairs=(AddressPair(address="10.0.0.9", mac="52:54:00:00:00:02"),),
    anti_spoofing=False,
    qos=Qos(inbound=Bandwidth(average_kib_s=1)),
    queues=2,
)
INSTANCE = Instance(
    id=GUEST,
    name="web",
    host=HostName("h1"),
    vm_state=VmState.ERROR,
    task_state=TaskState.NETWORKING,
    power_state=PowerState.RUNNING,
    flavor=FLAVOR,
    image=SOURCE,
    image_name="gold",
    ports=(PORT,),
    virt_type=VirtType.KVM,
    machine="pc-q35-7.2",
    disk_backend=DiskBackend(kind=BackendKind.LVM, pool="guests"),
    image_properties={"os_type": "linux"},
    image_min_memory_mib=32,
    ssh_keys=("ssh-ed25519 AAAA me",),
    user_data="#cloud-config\n",
    config_drive=SeedKind.CONFIG_DRIVE,
    seed_known=False,
    metadata={"role": "db"},
    created_at=1.0,
    launched_at=2.0,
    fault=Fault(code="Refused", message="m", step="s", operation_id=OperationId("o"), at=3.0),
    project="blue",
    place=GuestPlace(things=("cpu:3",)),
    server_group=ServerGroupId("sg"),
    volumes=(VOLUME,),
)
NETWORK = Network(
    id=NetworkId("11111111-2222-3333-4444-555555555555"),
    name="lan",
    kind=NetworkKind.VLAN,
    cidr="10.0.0.0/24",
    gateway="10.0.0.1",
    dns=("10.0.0.2",),
    mtu=1400,
    dhcp=False,
    nat=False,
    cidr6="fd00::/64",
    gateway6="fd00::1",
    ipv6_mode=Ipv6Mode.DHCPV6,
    segment=7,
    physical="physnet1",
    bridge="br0",
    routes=(Route(destination="10.1.0.0/16", via="10.0.0.3"),),
    ntp=("10.0.0.4",),
)
RULE = SecurityRule(
    direction=Direction.INGRESS,
    family=IpFamily.V4,
    protocol="tcp",
    first_port=1,
    last_port=2,
    remote="10.0.0.0/8",
    remote_group=SecurityGroupId("g"),
)
GROUP = SecurityGroup(id=SecurityGroupId("g"), name="web", rules=(RULE,))
FLOATING = FloatingAddress(id=FloatingId("f"), address="203.0.113.7", port_id=PortId("p"))
IMAGE = Image(
    id=ImageId("f94e5130-469f-5282-ad5c-43c7a753d879"),
    name="gold",
    source=SOURCE,
    size_bytes=1,
    virtual_bytes=2,
    created_at=3.0,
    host=HostName("h1"),
    min_disk_gib=4,
    min_memory_mib=5,
    instance_id=GUEST,
    properties={"os_type": "linux"},
    deletion=Deletion(request_id=OperationId("d"), asked_at=1.0, sent_at=2.0),
    base_image="debian",
)


def names_of(kind: type) -> set[str]:
    return {f"{kind.__name__}.{field.name}" for field in fields(kind)}


def has_default(record: object, field: Field[Any]) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return default is not MISSING and bool(getattr(record, field.name) == default)


def test_every_field_is_said_to_be_kept_or_to_be_lost_and_no_field_both() -> None:
    kept, lost = ROW.findall(KEPT), ROW.findall(LOST)

    assert set(kept) | set(lost) == set().union(*map(names_of, KINDS))
    assert len(kept) + len(lost) == len({*kept, *lost})


@pytest.mark.parametrize(
    "record", [INSTANCE, PORT, VOLUME, NETWORK, GROUP, RULE, FLOATING, IMAGE], ids=lambda r: type(r).__name__
)
def test_the_record_that_proves_it_has_something_in_each_field(record: Any) -> None:
    assert [field.name for field in fields(record) if has_default(record, field)] == []


def lost_of(kind: type) -> set[str]:
    return {name.partition(".")[2] for name in ROW.findall(LOST) if name.startswith(f"{kind.__name__}.")}


def test_an_instance_comes_back_from_its_copy_but_for_what_is_said_to_be_lost(tmp_path: Path) -> None:
    (tmp_path / "instances" / GUEST).mkdir(parents=True)
    records = KeptRecords(tmp_path)
    records.ensure_instance_kept(INSTANCE)

    (copy,) = records.list_instances()
    domain = DomainFacts(instance_id=GUEST, name="i", power_state=PowerState.RUNNING, boot_id=1, owned=True)
    held = GuestHeld(instance_id=GUEST, copy=copy.instance, domain=domain, macs=(PORT.mac,), serials=(VOLUME.serial,))
    found = recovered_from(held, HostName("h1")).instance

    assert found is not None
    differing = {
        field.name for field in fields(Instance) if getattr(found, field.name) != getattr(INSTANCE, field.name)
    }
    assert differing == lost_of(Instance)
    text = next(tmp_path.glob("instances/*/record.json"))
    assert (text.stat().st_mode & 0o777, "AAAA" in text.read_text(), "cloud-config" in text.read_text()) == (
        0o600,
        False,
        False,
    )


def test_an_image_comes_back_from_its_copy(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    records = KeptRecords(tmp_path)
    records.ensure_image_kept(replace(IMAGE, deletion=None))
    assert records.list_images() == ()  # no file of it is published

    (tmp_path / "images" / f"{IMAGE.id}.qcow2").touch()
    records.ensure_image_kept(replace(IMAGE, deletion=None))

    (copy,) = records.list_images()
    assert {
        field.name for field in fields(Image) if getattr(copy.image, field.name) != getattr(IMAGE, field.name)
    } == lost_of(Image)


def test_networks_groups_and_floating_addresses_come_back_from_what_was_told(tmp_path: Path) -> None:
    around = Surroundings(network=NETWORK, groups=(GROUP,), floating=(FLOATING,))
    kept = KeptSurroundings(tmp_path / "surroundings")
    kept.ensure_kept(around)

    (copy,) = kept.list_all()
    assert msgspec.json.decode(msgspec.json.encode(copy.around), type=Surroundings) == around
