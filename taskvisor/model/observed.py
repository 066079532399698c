"""What was seen on a host. Facts are asked for each time; a record of them is only ever a snapshot."""

from dataclasses import dataclass

from taskvisor.model.ids import InstanceId
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
