"""What is stored: instances, images, hosts. Frozen values; a change is a new value.

Each record is JSON in the store. `dataclasses.replace` makes the next one; who may write it is the store's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskvisor.model.aggregate import Aggregate, zone_of
from taskvisor.model.disk_backend import DiskBackend
from taskvisor.model.drain import DrainPhase
from taskvisor.model.host_mark import HostMark
from taskvisor.model.ids import HostName, ImageId, InstanceId, OperationId, ServerGroupId
from taskvisor.model.network import Port
from taskvisor.model.numa import GuestPlace
from taskvisor.model.observed import HostCell, PciDevice
from taskvisor.model.server_group import ServerGroup
from taskvisor.model.states import ImageFormat, PowerState, SeedKind, TaskState, VirtType, VmState
from taskvisor.model.volume import VolumeAttachment


@dataclass(frozen=True, kw_only=True)
class Flavor:
    """The size of a guest. `disk_gib` 0 means: as large as the image.

    `swap_mib` and `ephemeral_gib` are disks of their own; 0: none. `extra_specs` ask for more, under Nova's names.
    """

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    swap_mib: int = 0
    ephemeral_gib: int = 0
    extra_specs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Where an image is read from, and what is known of its content."""

    url: str  # file:///…, http(s)://…, glance://…, or of an object store: s3://…
    sha256: str | None = None
    format: ImageFormat | None = None


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """An image is being deleted: nobody builds from it any more, and its file is still to be removed from the host that has it.

    `request_id`: whose caller is told when it is gone. `sendings`: how often its host was asked, `sent_at` the last time.
    `problem`: why the host could not do it then.
    """

    request_id: OperationId
    asked_at: float
    sent_at: float
    sendings: int = 1
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Image:
    """A registered image. `host` is set when its file lies on one host only (a snapshot does).

    `size_bytes` and `virtual_bytes` are 0 where nobody has looked: of an image that was registered by request.

    `properties` are Nova's and Glance's words for what a guest made of it needs: hw_disk_bus, os_type, …
    """

    id: ImageId
    name: str
    source: ImageSource
    size_bytes: int
    virtual_bytes: int
    created_at: float
    host: HostName | None = None
    min_disk_gib: int = 0
    min_memory_mib: int = 0
    instance_id: InstanceId | None = None  # the instance it is a snapshot of
    properties: Mapping[str, str] = field(default_factory=dict)  # what its guests need, under Nova's names
    deletion: Deletion | None = None
    base_image: str | None = None  # of a snapshot: what its instance was built from


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The last thing that went wrong with an instance."""

    code: str
    message: str
    step: str
    operation_id: OperationId
    at: float


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The record of one VM. The hypervisor's copy of it is in the domain's metadata.

    `image` is what the root disk was made from. `host` is where its claim, disks and domain are. `machine` is the board
    that it was first built with; it keeps it, so that an upgraded hypervisor does not change the guest. `disk_backend` likewise
    is where its disks were made. `seed_known` False: the record was rebuilt from a definition, which holds neither keys nor
    user data, so its seed is not made from it.
    """

    id: InstanceId
    name: str
    host: HostName
    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    flavor: Flavor
    image: ImageSource
    image_name: str
    ports: tuple[Port, ...]
    virt_type: VirtType | None = None  # None until the host that runs it has decided
    machine: str | None = None  # likewise
    disk_backend: DiskBackend | None = (
        None  # likewise; of a guest that runs, None is what there was before: qcow2 files
    )
    image_properties: Mapping[str, str] = field(default_factory=dict)
    image_min_memory_mib: int = 0
    ssh_keys: tuple[str, ...] = ()
    user_data: str | None = None
    config_drive: SeedKind = SeedKind.NOCLOUD
    seed_known: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    launched_at: float | None = None
    fault: Fault | None = None
    project: str = "default"
    """Whose it is, as far as flavors, placement and statistics ask."""
    place: GuestPlace | None = None  # what of its host is its alone; None: nothing
    volumes: tuple[VolumeAttachment, ...] = ()  # each is held for it in the store, from when it is asked for
    server_group: ServerGroupId | None = None  # whose member it is, in the store too

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of its NICs, in NIC order."""
        return tuple(port.address for port in self.ports)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """An amount of what a host has: virtual CPUs, memory (MiB), disk (GiB), and further kinds by name, in units of their own."""

    vcpus: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    others: Mapping[str, int] = field(default_factory=dict)

    def amounts(self) -> tuple[tuple[str, int], ...]:
        """Each kind by name."""
        named = (("vcpus", self.vcpus), ("memory_mib", self.memory_mib), ("disk_gib", self.disk_gib))
        return (*named, *sorted(self.others.items()))

    @classmethod
    def of_amounts(cls, amounts: Mapping[str, int]) -> "Resources":
        """The amounts, each kind by name; what is not named is none of it."""
        others = {kind: amount for kind, amount in amounts.items() if kind not in ("vcpus", "memory_mib", "disk_gib")}
        return cls(
            vcpus=amounts.get("vcpus", 0),
            memory_mib=amounts.get("memory_mib", 0),
            disk_gib=amounts.get("disk_gib", 0),
            others=others,
        )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a host has, as it last reported. `limits` is what may be claimed: total x ratio - reserved."""

    total: Resources
    limits: Resources
    arch: str
    virt_type: VirtType
    hypervisor_version: str
    domains: int
    disk_free_gib: int
    reported_at: float
    physical_networks: tuple[str, ...] = ()
    """Those that the host has an interface on, by name."""
    tunnel_address: str | None = None
    cpu_model: str | None = None
    traits: tuple[str, ...] = ()
    """What it can, in the words of os-traits: HW_CPU_X86_AVX2, COMPUTE_SECURITY_UEFI_SECURE_BOOT, …; sorted."""
    cells: tuple[HostCell, ...] = ()
    pci_devices: tuple[PciDevice, ...] = ()
    """Those that guests may have."""
    cached_images: tuple[str, ...] = ()
    """SHA-256 of the images that need not be fetched; sorted."""
    stats: Mapping[str, int] = field(default_factory=dict)
    """Nova's: num_instances, num_vm_<vm_state>, num_task_<task_state>, num_os_type_<os>, num_proj_<project>, io_workload."""
    things: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What one instance alone may have each of, by sort: cpu, pci:<vendor>:<product>, …"""
    problems: tuple[str, ...] = ()
    """What it said that can't be, or was told that it can't keep: while there is any, nothing may be claimed of it."""
    remarks: tuple[str, ...] = ()
    """Where what its hypervisor says of guests and what is recorded of them differ, in a sentence each."""
    disk_available_least_gib: int | None = None
    """What would be free if all disks of its guests grew to their full size; less than nothing where they could not."""
    orphans: tuple[InstanceId, ...] = ()
    """Domains that no record is of, by their ids. The memory of those that run is not in `limits`."""
    guests: Resources = Resources()
    """What its domains have, as its hypervisor says: virtual CPUs and memory."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host that has ever reported. It is up while its heartbeat key lives in the store."""

    name: HostName
    inventory: Inventory | None
    used: Resources
    instances: int
    up: bool
    disabled_reason: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    failed_builds: int = 0
    """Builds that failed here one after the other, since one last came to its end."""
    forced_down: HostMark | None = None
    """It is treated as down, whatever its heartbeat says."""
    draining: DrainPhase | None = None
    """How far it was emptied; None: it was not, or was given back."""
    reported_at: float | None = None
    """When it last said what it has. Its inventory is as old as its last change."""
    aggregates: tuple[Aggregate, ...] = ()
    """Those that it is in, by name."""

    @property
    def zone(self) -> str | None:
        """Its availability zone; None: it is in none."""
        return zone_of(self.aggregates)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Resources held on a host for an instance, from placement until the instance is gone.

    `limits` is what may be claimed on the host in all, as its inventory said when it was chosen.
    """

    host: HostName
    instance_id: InstanceId
    resources: Resources
    limits: Resources
    things: tuple[str, ...] = ()
    """What of the host is this instance's alone, each named once on that host: cpu:7, pci:0000:3b:00.0."""
    place: GuestPlace | None = None
    """How the instance has them, for its record; None where it has none."""
    server_group: ServerGroup | None = None
    """The group that the instance is a member of from then on, on that host."""
