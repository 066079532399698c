"""What was seen on a host. Facts are asked for each time; a record of them is only ever a snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.drift import GuestDrift
from taskvisor.model.ids import ImageId, InstanceId, PortId
from taskvisor.model.states import ImageFormat, PowerState, VirtType


@dataclass(frozen=True, kw_only=True)
class DomainFacts:
    """A domain as libvirt has it. `boot_id` changes whenever the guest is started anew (libvirt's domain id); None when off."""

    instance_id: InstanceId
    name: str
    power_state: PowerState
    boot_id: int | None
    owned: bool  # bears our metadata
    vnc_port: int | None = None


@dataclass(frozen=True, kw_only=True)
class DefinitionFacts:
    """The XML of a domain: as it is defined, which holds from its next start, and as it runs; None where it is not so."""

    instance_id: InstanceId
    persistent_xml: str | None
    live_xml: str | None


@dataclass(frozen=True, kw_only=True)
class DiskFileFacts:
    """The file of a guest's disk, by its own header. `base_path`: what it says that it stands on; None: on nothing."""

    format: ImageFormat
    virtual_bytes: int
    base_path: str | None = None
    base_is_there: bool = True


@dataclass(frozen=True, kw_only=True)
class LinkFacts:
    """A TAP of ours on the host, by its alias."""

    name: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class GuestSupport:
    """What the hypervisor can give a guest, in libvirt's words. `machines`: the names that it takes, and what each is now.

    What was not asked is None, and then nothing is known of it. https://libvirt.org/formatdomaincaps.html
    """

    machines: Mapping[str, str] | None = None
    firmwares: frozenset[str] | None = None
    secure_boot: bool | None = None
    cpu_modes: frozenset[str] | None = None
    cpu_models: frozenset[str] | None = None
    disk_buses: frozenset[str] | None = None
    video_models: frozenset[str] | None = None
    tpm_models: frozenset[str] | None = None
    tpm_versions: frozenset[str] | None = None
    memory_encryption: bool | None = None
    encrypted_guests: int | None = None


@dataclass(frozen=True, kw_only=True)
class HostCell:
    """A NUMA cell of a host. `cores`: its CPUs, the hyperthreads of a core together. `pages`: how many, by size in KiB."""

    id: int
    memory_mib: int
    cores: tuple[frozenset[int], ...]
    pages: Mapping[int, int] = field(default_factory=dict)

    @property
    def cpus(self) -> frozenset[int]:
        """All its CPUs."""
        return frozenset().union(*self.cores)


@dataclass(frozen=True, kw_only=True)
class PciDevice:
    """A PCI device of a host. `address` like 0000:3b:00.0, the ids as four hexadecimal digits, `cell`: the NUMA cell near it."""

    address: str
    vendor_id: str
    product_id: str
    cell: int | None = None


@dataclass(frozen=True, kw_only=True)
class HypervisorFacts:
    """What the hypervisor says of its host. `cells` is empty where it was not asked.

    `cpu_features` are those of the CPU that guests can be shown, in libvirt's words. `pci_devices` are all of the host's where
    it was told to look for some, else none.
    """

    cpus: int
    memory_mib: int
    arch: str
    virt_type: VirtType
    hypervisor_version: str
    emulator: str
    machine: str
    domains: int
    support: GuestSupport = GuestSupport()
    cells: tuple[HostCell, ...] = ()
    cpu_model: str | None = None
    cpu_features: frozenset[str] = frozenset()
    pci_devices: tuple[PciDevice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DomainUse:
    """What a domain, ours or not, has of its host: `memory_mib` is the most that its guest may have."""

    instance_id: InstanceId
    name: str
    runs: bool
    vcpus: int
    memory_mib: int


class PlugPart(StrEnum):
    """What a NIC's plug is made of, as far as it can be lost."""

    LINK = "link"  # its device, on its bridge and up
    FILTER = "filter"  # the rules that let it speak, and be spoken to
    DHCP = "dhcp"  # its entry, and the server that answers
    METADATA = "metadata"  # the server that tells its guest, if it is told anything
    GUEST = "guest"  # the guest's end of the link: a QEMU that has it open


@dataclass(frozen=True, kw_only=True)
class PlugLack:
    """What the plug of a port lacks on its host; never nothing."""

    port_id: PortId
    parts: tuple[PlugPart, ...]


@dataclass(frozen=True, kw_only=True)
class PlugMemory:
    """What a host remembers of a port that it has plugged, whatever became of its link since."""

    bridge: str
    mac: str
    address: str


@dataclass(frozen=True, kw_only=True)
class DhcpFacts:
    """What DHCP on the host tells the guest with that MAC."""

    bridge: str
    mac: str
    address: str
    hostname: str


@dataclass(frozen=True, kw_only=True)
class ImageFileFacts:
    """What lies on the host of a snapshot's image. `complete`: published; else only parts, or a copy not yet published."""

    image_id: ImageId
    complete: bool


@dataclass(frozen=True, kw_only=True)
class ConnectedVolume:
    """A volume that the host is connected to, or about to be, for one instance."""

    source: str
    instance_id: InstanceId


@dataclass(frozen=True, kw_only=True)
class LinkSeen:
    """A TAP of ours, and the guest and port that its alias names."""

    name: str
    instance_id: InstanceId
    port_id: PortId


@dataclass(frozen=True, kw_only=True)
class HostSeen:
    """All that a host has, ours or not, as one look at it found it. `looked_at` is when the look began.

    `drifts`: its guests that are not as their records, as they were just then, make them.
    """

    looked_at: float
    domains: tuple[DomainFacts, ...]
    directories: tuple[InstanceId, ...]
    links: tuple[LinkSeen, ...]
    dhcp: tuple[DhcpFacts, ...]
    images: tuple[ImageFileFacts, ...]
    pool_disks: tuple[InstanceId, ...] = ()  # whose disks lie in its volume group or Ceph pool, which hosts may share
    drifts: tuple[GuestDrift, ...] = ()
    volumes: tuple[ConnectedVolume, ...] = ()
    lacks: tuple[PlugLack, ...] = ()  # of guests that run, by their records as they were just then
