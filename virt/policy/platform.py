"""Whether a host is one that a guest may run on: its architecture, and whether it has KVM. A guest is never emulated unasked."""

from taskvisor.model.architecture import Architecture, parse_architecture
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.hypervisor_type import HypervisorType
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.states import VirtType
from virt.options import GuestOptions


def require_platform(options: GuestOptions, host: HypervisorFacts, virt_type: VirtType) -> None:
    """DoesNotFit when another host may be what the image asks for; `virt_type` is what the guest would run on here."""
    wanted = options.platform
    if wanted.architecture is not None and wanted.architecture is not _architecture_of(host):
        raise DoesNotFit(f"the image is for {wanted.architecture}, and this host is {host.arch}")
    if wanted.hypervisor_type is HypervisorType.KVM and virt_type is not VirtType.KVM:
        raise DoesNotFit(f"the image asks for img_hv_type={wanted.hypervisor_type}, and this host has no KVM")


def _architecture_of(host: HypervisorFacts) -> Architecture | None:
    try:
        return parse_architecture(host.arch)
    except ValueError:
        return None  # a word of libvirt's that Nova has none for: nothing asks for it
