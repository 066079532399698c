"""What the guest's memory is made of on the host, and whether it is encrypted."""

from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.numa import GuestPlacement
from taskvisor.model.numa_fit import page_size_for
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Flavor
from virt.domain.boot import Firmware
from virt.domain.memory import HugePageConfig, MemoryAccess, MemoryBackingConfig, MemorySource
from virt.domain.security import SevConfig
from virt.options import GuestOptions
from virt.options.memory import Encryption
from virt.policy.placement import guest_cells_for
from virt.policy.support import require_able, require_q35

SEV_POLICY = 0x33
"""No debugging, no sharing of keys, no sending to other platforms than SEV ones: Nova's."""


def memory_backing_for(
    flavor: Flavor, options: GuestOptions, host: HypervisorFacts, placement: GuestPlacement | None
) -> MemoryBackingConfig | None:
    """None where the guest's memory is the ordinary kind. DoesNotFit when the host has no pages of the size."""
    wants = options.memory
    if placement is not None:
        page_size_kib = placement.page_size_kib
    else:
        page_size_kib = page_size_for(wants.page_size, guest_cells_for(flavor, options), host.cells)
    if page_size_kib is not None and host.cells and not any(page_size_kib in cell.pages for cell in host.cells):
        raise DoesNotFit(f"this host has no pages of {page_size_kib} KiB")
    shared = wants.access is MemoryAccess.SHARED
    backing = MemoryBackingConfig(
        huge_pages=() if page_size_kib is None else (HugePageConfig(size_kib=page_size_kib),),
        no_share_pages=options.cpu.realtime,
        locked=wants.locked or options.cpu.realtime or wants.encryption is not Encryption.OFF,
        # Another process can map what has a file descriptor; huge pages have one already.
        source=MemorySource.MEMFD if shared and page_size_kib is None else None,
        access=wants.access,
    )
    return None if backing == MemoryBackingConfig() else backing


def launch_security_for(options: GuestOptions, host: HypervisorFacts, machine: str) -> SevConfig | None:
    """Refused when the guest is not of the kind that can be encrypted; DoesNotFit when the host can't."""
    if options.memory.encryption is Encryption.OFF:
        return None
    require_q35(machine, "hw:mem_encryption")
    if options.boot.firmware is not Firmware.EFI:
        raise Refused("hw:mem_encryption: needs hw_firmware_type=uefi on the image; set it, or leave both out")
    require_able(host.support.memory_encryption, "encrypted memory")
    return SevConfig(policy=SEV_POLICY)
