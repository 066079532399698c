"""The guest of the second source document, from what a caller would ask for: spec, options, layout, policy, definition.

What is compared is the same Config that `domain/test_walkthrough.py` holds to the document's print. What libvirt, a
scheduler or Nova's own numbering put into that print is named here, each with its reason.
"""

from dataclasses import replace

from taskvisor.model.flavors import flavor_of
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.plan import DiskLayout, DiskRole, DiskStorage, VolumePlan
from taskvisor.model.records import ImageSource, Instance
from taskvisor.model.spec import BuildSpec, FlavorSpec, parse_spec
from taskvisor.model.states import PowerState, VirtType, VmState
from tests.virt.domain.owner_cases import OWNER
from tests.virt.domain.walkthrough import UUID, VOLUME, WALKTHROUGH
from virt.domain import render
from virt.domain.config import DeviceConfig
from virt.domain.cpu import ModelFallback
from virt.domain.disk import DiskCache
from virt.domain.display import InputBus, InputConfig, InputType, VideoConfig
from virt.domain.domain import DomainConfig
from virt.domain.nova_owner import NovaDialect
from virt.domain.owner import OwnerConfig
from virt.domain.placement import VcpuPlacement, VcpusConfig
from virt.layout import disk_layout_for
from virt.policy import Dialect, HostChoices, NovaOwnership, Vendor, domain_config_for, machine_for

IMAGE_ID = "9bf97139-7760-4ace-b3d1-5bcd0ff30f55"
SPEC = parse_spec(
    BuildSpec,
    {
        "name": "myInstanceWithVolume",
        "image": "http://images.test/" + IMAGE_ID,
        "image_properties": {
            "hw_video_model": "cirrus",
            "hw_video_ram": "16",
            "hw_pointer_model": "usbtablet",
            "hw_qemu_guest_agent": "no",
        },
        "flavor": {
            "vcpus": 1,
            "memory_mib": 2048,
            "disk_gib": 20,
            "extra_specs": {
                "quota:cpu_shares": "1024",
                "hw:cpu_mode": "host-model",
                "hw:cpu_sockets": "1",
                "hw_video:ram_max_mb": "16",
                "hw_rng:allowed": "no",
            },
        },
        "networks": [],
    },
)
HOST = HypervisorFacts(
    cpus=4,
    memory_mib=8192,
    arch="x86_64",
    virt_type=VirtType.QEMU,
    hypervisor_version="1.5.3",
    emulator="/usr/libexec/qemu-kvm",
    machine="pc-i440fx-rhel7.0.0",
    domains=0,
)
CHOICES = HostChoices(
    dialect=Dialect.NOVA,
    vendor=Vendor(
        manufacturer="Fedora Project",
        product="OpenStack Nova",
        version="13.1.0-1.el7",
        serial="acb2b380-0bb5-7101-f93d-107563ca227e",
    ),
    vnc_address="0.0.0.0",  # noqa: S104 - the document's
    vnc_keymap="en-us",
    nova_owner=NovaOwnership(
        dialect=NovaDialect.V1_0,
        package_version="13.1.0-1.el7",
        user=OWNER.user,
        user_uuid=OWNER.user_uuid,
        project=OWNER.project,
        project_uuid=OWNER.project_uuid,
    ),
)
ATTACHED = VolumePlan(
    serial=VOLUME,
    path=f"/dev/disk/by-path/ip-192.168.8.8:.openstack:volume-{VOLUME}-lun-0",
    storage=DiskStorage.BLOCK,
    device="/dev/vdb",
)


def test_the_documents_guest_comes_of_its_spec() -> None:
    assert render(as_libvirt_completes(made())) == render(WALKTHROUGH)


def test_our_own_mark_stands_beside_novas() -> None:
    assert [type(owner) for owner in made().owners] == [OwnerConfig, type(OWNER)]


def made() -> DomainConfig:
    """The guest as it is given to libvirt."""
    instance = built_instance()
    machine = machine_for(instance, HOST)
    layout = disk_layout_for(instance, instances_dir="/var/lib/nova/instances", machine=machine, volumes=(ATTACHED,))
    return domain_config_for(instance, without_seed(layout), (), HOST, disk_cache=DiskCache.NONE, choices=CHOICES)


def built_instance() -> Instance:
    """The record that the spec stands for. Its flavor and image bear the names that Nova's catalogues give them."""
    assert isinstance(SPEC.flavor, FlavorSpec)
    return Instance(
        id=InstanceId(UUID),
        name=SPEC.name,
        host=HostName("kvm1"),
        vm_state=VmState.BUILDING,
        task_state=None,
        power_state=PowerState.NOSTATE,
        flavor=flavor_of(SPEC.flavor, "m1.small"),
        image=ImageSource(url=SPEC.image),
        image_name=IMAGE_ID,
        image_properties=SPEC.image_properties,
        ports=(),
        created_at=OWNER.created_at,
    )


def without_seed(layout: DiskLayout) -> DiskLayout:
    """The document's guest was built without a config drive; ours always has its seed."""
    return replace(layout, disks=tuple(disk for disk in layout.disks if disk.role is not DiskRole.SEED))


def as_libvirt_completes(config: DomainConfig) -> DomainConfig:
    """With what the print has from others: Nova's running number in the name, and what libvirt fills in by itself."""
    return replace(
        config,
        name="instance-00000002",
        owners=tuple(owner for owner in config.owners if not isinstance(owner, OwnerConfig)),  # Nova knows no other
        current_memory_mib=config.memory_mib,
        vcpus=VcpusConfig(count=config.vcpus.count, placement=VcpuPlacement.STATIC),
        cpu=replace(config.cpu, model_fallback=ModelFallback.ALLOW),
        devices=tuple(device for given in config.devices for device in completed(given)),
    )


def completed(device: DeviceConfig) -> tuple[DeviceConfig, ...]:
    """The PS/2 devices that every PC has stand after the tablet, and a card has one head."""
    match device:
        case InputConfig(type=InputType.TABLET):
            mouse = InputConfig(type=InputType.MOUSE, bus=InputBus.PS2)
            return (device, mouse, InputConfig(type=InputType.KEYBOARD, bus=InputBus.PS2))
        case VideoConfig():
            return (replace(device, heads=1),)
        case _:
            return (device,)
