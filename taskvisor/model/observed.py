"""What was seen on a host. Facts are asked for each time; a record of them is only ever a snapshot."""

from dataclasses import dataclass

from taskvisor.model.ids import ImageId, InstanceId, PortId
from taskvisor.model.states import PowerState, VirtType


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
class LinkFacts:
    """A TAP of ours on the host, by its alias."""

    name: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class HypervisorFacts:
    """What the hypervisor says of its host."""

    cpus: int
    memory_mib: int
    arch: str
    virt_type: VirtType
    hypervisor_version: str
    emulator: str
    machine: str
    domains: int


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
class LinkSeen:
    """A TAP of ours, and the guest and port that its alias names."""

    name: str
    instance_id: InstanceId
    port_id: PortId


@dataclass(frozen=True, kw_only=True)
class HostSeen:
    """All that a host has, ours or not, as one look at it found it. `looked_at` is when the look began."""

    looked_at: float
    domains: tuple[DomainFacts, ...]
    directories: tuple[InstanceId, ...]
    links: tuple[LinkSeen, ...]
    dhcp: tuple[DhcpFacts, ...]
    images: tuple[ImageFileFacts, ...]
