"""What can be asked of the hosts that a guest may run on: which CPUs, which hypervisor, which interface between the two."""

from dataclasses import dataclass

from taskvisor.model import hypervisor_type, vm_mode
from taskvisor.model.architecture import Architecture, parse_architecture
from taskvisor.model.errors import Refused
from taskvisor.model.hypervisor_type import HypervisorType, parse_hypervisor_type
from taskvisor.model.vm_mode import VmMode, parse_vm_mode
from virt.options.kinds import Kind
from virt.options.option import ONE_PLACE, Option


@dataclass(frozen=True, kw_only=True)
class PlatformOptions:
    """What is None does not matter."""

    architecture: Architecture | None = None
    hypervisor_type: HypervisorType | None = None
    vm_mode: VmMode | None = None


PLATFORM_OPTIONS = (
    Option(
        field="architecture",
        image_key="hw_architecture",
        other_image_key="architecture",
        kind=Kind(
            words="an architecture in Nova's words, like x86_64, aarch64, ppc64le or i686 (amd64 and i386 too)",
            parse=parse_architecture,
        ),
        rule=ONE_PLACE,
        default="the host's, whichever it is",
        effect="The guest runs on hosts of that architecture only.",
    ),
    Option(
        field="hypervisor_type",
        image_key="img_hv_type",
        other_image_key="hypervisor_type",
        kind=Kind(words=f"one of {', '.join(HypervisorType)}", parse=parse_hypervisor_type),
        rule=ONE_PLACE,
        default="kvm or qemu, as the host has it",
        effect="kvm: only on hosts that have it. qemu: anywhere. The others of Nova's words are refused: no host here is one.",
    ),
    Option(
        field="vm_mode",
        image_key="hw_vm_mode",
        other_image_key="vm_mode",
        kind=Kind(words=f"one of {', '.join(VmMode)} (pv, hv and baremetal too)", parse=parse_vm_mode),
        rule=ONE_PLACE,
        default="hvm",
        effect="Nothing: guests here are hvm. The others of Nova's words are refused.",
    ),
)


def require_sense(options: PlatformOptions) -> None:
    """Refused for what no host here is."""
    if options.hypervisor_type is not None and options.hypervisor_type not in hypervisor_type.SERVED:
        raise Refused(f"img_hv_type={options.hypervisor_type}: hosts here are kvm or qemu; choose another image")
    if options.vm_mode is not None and options.vm_mode not in vm_mode.SERVED:
        raise Refused(f"hw_vm_mode={options.vm_mode}: guests here are hvm; choose another image")
