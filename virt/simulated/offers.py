"""What a simulated host says that it can give a guest: all that a well-equipped emulating host can. Pure."""

from taskvisor.model.observed import GuestSupport, HostCell

MACHINE = "pc-q35-8.2"
SUPPORT = GuestSupport(
    machines={
        "pc": "pc-i440fx-8.2",
        "pc-i440fx-8.2": "pc-i440fx-8.2",
        "q35": MACHINE,
        MACHINE: MACHINE,
    },
    firmwares=frozenset({"bios", "efi"}),
    secure_boot=True,
    cpu_modes=frozenset({"custom", "host-model", "maximum"}),
    disk_buses=frozenset({"fdc", "ide", "sata", "scsi", "usb", "virtio"}),
    video_models=frozenset({"bochs", "cirrus", "none", "qxl", "ramfb", "vga", "virtio", "vmvga"}),
    tpm_models=frozenset({"tpm-crb", "tpm-tis"}),
    tpm_versions=frozenset({"1.2", "2.0"}),
    memory_encryption=False,
)
SMALL_PAGE_KIB, LARGE_PAGE_KIB = 4, 2048
KIB_PER_MIB = 1024


def cells_for(cpus: int, memory_mib: int) -> tuple[HostCell, ...]:
    """Two alike, of cores with two threads each, where the CPUs can be parted so; else one, of single threads.

    A quarter of the memory is in large pages.
    """
    if cpus % 4:
        return (_cell(0, tuple(frozenset({cpu}) for cpu in range(cpus)), memory_mib),)
    threads = [frozenset({core, core + cpus // 2}) for core in range(cpus // 2)]  # numbered as Linux does
    return tuple(
        _cell(cell, tuple(threads[cell * cpus // 4 : (cell + 1) * cpus // 4]), memory_mib // 2) for cell in (0, 1)
    )


def _cell(number: int, cores: tuple[frozenset[int], ...], memory_mib: int) -> HostCell:
    memory_kib = memory_mib * KIB_PER_MIB
    large = memory_kib // 4 // LARGE_PAGE_KIB
    pages = {SMALL_PAGE_KIB: (memory_kib - large * LARGE_PAGE_KIB) // SMALL_PAGE_KIB, LARGE_PAGE_KIB: large}
    return HostCell(id=number, memory_mib=memory_mib, cores=cores, pages=pages)
