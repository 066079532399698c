"""The memory of each NUMA cell: large pages by size, and what is left of ordinary memory.

A guest asks for none of it by name: how much of which cell it takes follows from where it lies (`things`).
"""

from taskvisor.compute.resources.kind import NOTHING_ASKED, Asked, GuestWants, HostHas, Offered, ResourceChoices
from taskvisor.model.numa import cell_memory_amount, pages_amount
from taskvisor.model.numa_fit import KIB_PER_MIB, SMALL_PAGE_KIB
from taskvisor.model.observed import HostCell


class Cells:
    """Amounts like memory_mib@0 and pages_2048@0, of guests that lie in cells of their choice."""

    def __init__(self, choices: ResourceChoices) -> None:
        del choices

    def asked(self, guest: GuestWants) -> Asked:
        del guest
        return NOTHING_ASKED

    def offered(self, host: HostHas) -> Offered:
        amounts: dict[str, int] = {}
        for cell in host.facts.cells:
            amounts[cell_memory_amount(cell.id)] = ordinary_memory_mib(cell)
            for size_kib, pages in cell.pages.items():
                if size_kib > SMALL_PAGE_KIB and pages:
                    amounts[pages_amount(size_kib, cell.id)] = pages
        return Offered(amounts=amounts)


def ordinary_memory_mib(cell: HostCell) -> int:
    """What of the cell's memory is not set aside as large pages: nothing else can be made of those."""
    large_kib = sum(size_kib * pages for size_kib, pages in cell.pages.items() if size_kib > SMALL_PAGE_KIB)
    return max(0, cell.memory_mib - large_kib // KIB_PER_MIB)
