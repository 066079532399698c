"""XML back into values: a rebuilt record is the record, as far as the domain holds it."""

from dataclasses import replace

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import InstanceId, security_group_id_for
from taskvisor.model.network import AddressPair, Bandwidth, Qos
from taskvisor.model.plan import DiskBus
from taskvisor.model.records import ImageSource, Instance
from taskvisor.model.states import ImageFormat, PowerState, SeedKind, VirtType, VmState
from taskvisor.model.tuning import VolumeLimits, VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.virt.domain.cases import HOSTILE_TEXT
from tests.virt.sample_guests import INSTANCE, PC_HOST, vif_of
from virt.domain import render
from virt.domain.owner import NAMESPACE
from virt.layout import disk_layout_for
from virt.policy import domain_config_for
from virt.readback import (
    DiskSeen,
    DomainSeen,
    EmulatorSeen,
    instance_from_xml,
    parse_domain,
    parse_emulator,
    parse_owner,
)

STRANGER = "<domain type='kvm'><name>other</name><uuid>1</uuid></domain>"


def xml_of(instance: Instance) -> str:
    layout = disk_layout_for(instance, instances_dir="/srv", machine=PC_HOST.machine)
    return render(domain_config_for(instance, layout, [vif_of(port) for port in instance.ports], PC_HOST))


def rebuilt(instance: Instance) -> Instance:
    """What can be known of a running instance from its domain alone."""
    return replace(
        instance,
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        virt_type=VirtType.QEMU,
        machine=PC_HOST.machine,
        ssh_keys=(),
        user_data=None,
        seed_known=False,
    )


@pytest.mark.parametrize(
    "instance",
    [
        INSTANCE,
        replace(INSTANCE, ports=(), metadata={}, image=ImageSource(url="file:///x")),
        replace(
            INSTANCE,
            flavor=replace(
                INSTANCE.flavor, swap_mib=64, ephemeral_gib=1, extra_specs={"hw:cpu_cores": "2", "a": HOSTILE_TEXT}
            ),
            image_properties={"hw_disk_bus": "sata", "os_note": HOSTILE_TEXT},
        ),
        replace(INSTANCE, config_drive=SeedKind.CONFIG_DRIVE_VFAT),
        replace(INSTANCE, project="lab.example"),
        replace(
            INSTANCE,
            volumes=(
                VolumeAttachment(source="rbd://volumes/v", serial="v", device="vdb"),
                VolumeAttachment(
                    source="file:///srv/a%20b.qcow2",
                    serial="w",
                    format=ImageFormat.QCOW2,
                    bus=DiskBus.SCSI,
                    tuning=VolumeTuning(readonly=True, limits=VolumeLimits(read_iops=7)),
                ),
            ),
        ),
        replace(INSTANCE, name=HOSTILE_TEXT, image_name=HOSTILE_TEXT, metadata={HOSTILE_TEXT: HOSTILE_TEXT}),
    ],
)
def test_the_record_can_be_rebuilt_from_the_xml(instance: Instance) -> None:
    assert instance_from_xml(xml_of(instance), PowerState.RUNNING) == rebuilt(instance)


@given(
    st.text(st.characters()),
    st.dictionaries(st.text(st.characters()), st.text(st.characters())),
    st.floats(0, 2**40, allow_subnormal=False),
)
def test_names_metadata_and_times_survive_exactly(name: str, metadata: dict[str, str], created_at: float) -> None:
    instance = replace(INSTANCE, name=name, metadata=metadata, created_at=created_at)
    assert instance_from_xml(xml_of(instance), PowerState.RUNNING) == rebuilt(instance)


def test_the_record_survives_libvirt() -> None:
    connection = libvirt.open("test:///default")
    domain = connection.defineXMLFlags(xml_of(INSTANCE), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        assert instance_from_xml(domain.XMLDesc(), PowerState.RUNNING) == rebuilt(INSTANCE)
    finally:
        domain.undefine()


@pytest.mark.parametrize(
    ("power_state", "vm_state"),
    [
        (PowerState.RUNNING, VmState.ACTIVE),
        (PowerState.PAUSED, VmState.PAUSED),
        (PowerState.SUSPENDED, VmState.SUSPENDED),
        (PowerState.SHUTDOWN, VmState.STOPPED),
        (PowerState.CRASHED, VmState.STOPPED),
        (PowerState.NOSTATE, VmState.STOPPED),
    ],
)
def test_the_rebuilt_vm_state_follows_the_power_state(power_state: PowerState, vm_state: VmState) -> None:
    assert instance_from_xml(xml_of(INSTANCE), power_state).vm_state is vm_state


def test_a_domain_is_read_with_its_disks_taps_and_owner() -> None:
    directory = f"/srv/{INSTANCE.id}"
    assert parse_domain(xml_of(INSTANCE)) == DomainSeen(
        name=f"instance-{INSTANCE.id[:13]}",
        uuid=INSTANCE.id,
        owner=INSTANCE.id,
        vnc_port=None,
        disks=(
            DiskSeen(device="vda", path=f"{directory}/disk", format="qcow2", readonly=False, serial="root"),
            DiskSeen(device="hda", path=f"{directory}/disk.config", format="raw", readonly=True),
        ),
        taps=tuple(vif_of(port).tap for port in INSTANCE.ports),
    )


def test_a_strangers_domain_has_no_owner() -> None:
    seen = parse_domain(STRANGER)
    assert (seen.name, seen.owner, seen.disks, seen.taps) == ("other", None, (), ())


@pytest.mark.parametrize(("port", "seen"), [("5901", 5901), ("-1", None)])
def test_the_vnc_port_is_known_once_it_is_given(port: str, seen: int | None) -> None:
    xml = STRANGER.replace("<uuid>", f"<devices><graphics type='vnc' port='{port}'/></devices><uuid>")
    assert parse_domain(xml).vnc_port == seen


@pytest.mark.parametrize(
    ("xml", "owner"), [('<instance schema="1" id="a"/>', InstanceId("a")), ('<instance schema="1"/>', None)]
)
def test_the_owner_is_read_from_the_element_that_libvirt_hands_out(xml: str, owner: InstanceId | None) -> None:
    assert parse_owner(xml) == owner


def test_emulator_and_machine_are_read_from_domain_capabilities() -> None:
    said = "<path>/q</path><domain>kvm</domain><machine>pc-q35-8.2</machine><arch>x86_64</arch>"
    xml = f"<domainCapabilities>{said}</domainCapabilities>"
    assert parse_emulator(xml) == EmulatorSeen(emulator="/q", machine="pc-q35-8.2", arch="x86_64")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('schema="1"', 'schema="2"', "newer version"),
        ('schema="1"', 'schema="x"', "cannot be read"),
        ('vcpus="2"', 'vcpus="two"', "cannot be read"),
        ('vcpus="2" ', "", "has no vcpus"),
        ("tv:flavor", "tv:taste", "have no flavor"),
        (NAMESPACE, "urn:other", "bears no metadata of ours"),
        ("<domain ", "<network ", "cannot read"),
    ],
)
def test_metadata_that_cannot_be_read_are_said_to_be_so(old: str, new: str, reason: str) -> None:
    xml = xml_of(INSTANCE)
    assert old in xml
    with pytest.raises(UnreadableRecord, match=reason):
        instance_from_xml(xml.replace(old, new), PowerState.RUNNING)


@pytest.mark.parametrize("xml", ["", "<domain", "nonsense", "<network/>"])
def test_what_is_no_domain_cannot_be_read_as_one(xml: str) -> None:
    with pytest.raises(UnreadableRecord):
        parse_domain(xml)


def test_entities_are_not_expanded() -> None:
    xml = "<!DOCTYPE domain [<!ENTITY secret SYSTEM 'file:///etc/hostname'>]><domain><name>&secret;</name></domain>"
    assert parse_domain(xml).name == ""


def test_a_port_is_rebuilt_with_all_that_was_asked_of_it() -> None:
    plain = INSTANCE.ports[0]
    port = replace(
        plain,
        address6="fd00:152::5",
        security_groups=(security_group_id_for("web"),),
        allowed_pairs=(AddressPair(address="10.0.9.0/24", mac="52:54:00:00:00:07"),),
        anti_spoofing=False,
        qos=Qos(inbound=Bandwidth(average_kib_s=1000)),
        queues=4,
    )
    instance = replace(INSTANCE, ports=(port, *INSTANCE.ports[1:]))
    assert instance_from_xml(xml_of(instance), PowerState.RUNNING).ports == instance.ports


def test_a_ports_record_that_cannot_be_read_is_told() -> None:
    port = replace(INSTANCE.ports[0], queues=4)
    xml = xml_of(replace(INSTANCE, ports=(port,))).replace("queues&quot;:4", "queues&quot;:[]")
    with pytest.raises(UnreadableRecord, match=f"record of port {port.id} cannot be read"):
        instance_from_xml(xml, PowerState.RUNNING)
