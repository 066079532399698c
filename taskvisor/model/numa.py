"""What a guest asks of a host's CPUs, NUMA cells, pages and PCI devices, and where on its host it lies once that is decided."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class CpuThreadPolicy(StrEnum):
    """What a pinned guest does about hyperthreads."""

    PREFER = "prefer"  # siblings where there are any
    ISOLATE = "isolate"  # a whole core for each CPU
    REQUIRE = "require"  # siblings, or not on this host


class PageSize(StrEnum):
    """Pages by what they are, not by number."""

    SMALL = "small"  # the host's ordinary ones
    LARGE = "large"  # the largest that it has enough of; never small
    ANY = "any"  # large where it has them, else small


@dataclass(frozen=True, kw_only=True)
class GuestCell:
    """A NUMA node of the guest, before it has a place."""

    id: int
    vcpus: frozenset[int]
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class NumaAsk:
    """What a guest asks of NUMA cells. `pinned`: those of its CPUs that have one of the host's each.

    `emulator_cpus`: so many more for QEMU's own threads. `page_size` in KiB where it is a number.
    """

    cells: tuple[GuestCell, ...]
    pinned: frozenset[int] = frozenset()
    thread_policy: CpuThreadPolicy | None = None
    emulator_cpus: int = 0
    page_size: PageSize | int | None = None

    @property
    def own_cpus(self) -> int:
        """How many of the host's CPUs it has for itself."""
        return len(self.pinned) + self.emulator_cpus


@dataclass(frozen=True, kw_only=True)
class PciAsk:
    """So many devices of the host by an alias, or by vendor and product (10de:1db4)."""

    alias: str
    count: int


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """A node of the guest in a cell of the host. `pins`: which CPUs of the host each pinned CPU of the guest may use."""

    guest_cell: int
    host_cell: int
    pins: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GuestPlacement:
    """Where a guest lies on its host. Whoever gives it to the policy holds the CPUs for this guest.

    `page_size_kib` None: ordinary pages.
    """

    cells: tuple[CellPlan, ...]
    emulator_cpus: frozenset[int] = frozenset()
    page_size_kib: int | None = None

    @property
    def cpus(self) -> frozenset[int]:
        """The host's CPUs that are this guest's alone."""
        pins = (cpus for cell in self.cells for cpus in cell.pins.values())
        return self.emulator_cpus.union(*pins)


@dataclass(frozen=True, kw_only=True)
class PciDevicePlan:
    """A device of the host that is held for this guest."""

    alias: str
    bus: int
    slot: int
    domain: int = 0
    function: int = 0

    @property
    def address(self) -> str:
        """As Linux and libvirt write it: 0000:3b:00.0."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


@dataclass(frozen=True, kw_only=True)
class GuestPlace:
    """What of its host an instance has for itself, as it is in its record and in the domain's metadata.

    `things` are all that are held for it, by name, what no part of ours renders too: cpu:7, pci:0000:3b:00.0.
    """

    numa: GuestPlacement | None = None
    pci_devices: tuple[PciDevicePlan, ...] = ()
    things: tuple[str, ...] = ()


def cpu_things(cpus: Iterable[int]) -> tuple[str, ...]:
    """The names under which CPUs of a host are held."""
    return tuple(f"cpu:{cpu}" for cpu in sorted(cpus))


def pages_amount(size_kib: int, cell: int) -> str:
    """The name of the amount of pages of that size in a cell of a host."""
    return f"pages_{size_kib}@{cell}"


def cell_memory_amount(cell: int) -> str:
    """The name of the amount of ordinary memory in a cell of a host, in MiB."""
    return f"memory_mib@{cell}"
