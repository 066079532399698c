"""What can be asked of a guest's memory: NUMA nodes, the size of its pages, who else may see it."""

from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.errors import Refused
from taskvisor.model.numa import PageSize
from virt.domain.memory import MemoryAccess
from virt.options.kinds import BOOLEAN, CPU_SET, Kind, one_of, whole
from virt.options.option import AGREE, NOT_BOTH, Given, Option, Rule, conflict

MOST_NODES = 64
MOST_MEMORY_MIB = 16 * 1024 * 1024
MOST_PAGE_KIB = 1024 * 1024 * 1024
_UNITS_KIB = {"kb": 1, "kib": 1, "mb": 1024, "mib": 1024, "gb": 1024 * 1024, "gib": 1024 * 1024}


class Encryption(StrEnum):
    """Whether the guest's memory is encrypted against the host (AMD SEV)."""

    OFF = "false"
    SEV = "sev"


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """`page_size` in KiB where it is a number. `numa_cpus` and `numa_mem_mib` are by node."""

    numa_nodes: int | None = None
    numa_cpus: dict[int, frozenset[int]] = field(default_factory=dict)
    numa_mem_mib: dict[int, int] = field(default_factory=dict)
    page_size: PageSize | int | None = None
    locked: bool = False
    access: MemoryAccess | None = None
    encryption: Encryption = Encryption.OFF


def _page_size(text: str) -> PageSize | int:
    word = text.strip().lower()
    if word in set(PageSize):
        return PageSize(word)
    digits = word.rstrip("kmgib")
    unit = word[len(digits) :] or "kib"
    if not digits.isascii() or not digits.isdigit() or unit not in _UNITS_KIB or len(digits) > 12:
        raise ValueError(text)
    size_kib = int(digits) * _UNITS_KIB[unit]
    if not 4 <= size_kib <= MOST_PAGE_KIB or size_kib & (size_kib - 1):
        raise ValueError(text)
    return size_kib


def _choose_page_size(flavor: Given | None, image: Given | None) -> object | None:
    if image is None:
        return None if flavor is None else flavor.value
    if flavor is None:
        raise Refused(
            f"the image says {image}: only with a flavor that says hw:mem_page_size=any or large; set it there"
        )
    if flavor.value not in (PageSize.ANY, PageSize.LARGE):
        raise conflict(flavor, image, "only a flavor that says any or large leaves it to the image")
    return image.value


PAGE_SIZE_RULE = Rule(
    words="the image, where the flavor says any or large; else the flavor alone", choose=_choose_page_size
)
_PAGE_SIZE = Kind(words="small, large, any, or a size like 2048 (KiB), 2MB or 1GB", parse=_page_size)
_ENCRYPTION = one_of(Encryption, true=Encryption.SEV, off=Encryption.OFF, no=Encryption.OFF, yes=Encryption.SEV)

MEMORY_OPTIONS = (
    Option(
        field="numa_nodes",
        flavor_key="hw:numa_nodes",
        image_key="hw_numa_nodes",
        kind=whole(1, MOST_NODES),
        rule=NOT_BOTH,
        default="none; 1 where CPUs are pinned or pages are chosen",
        effect="How many NUMA nodes the guest has.",
    ),
    Option(
        field="numa_cpus",
        flavor_key="hw:numa_cpus.N",
        image_key="hw_numa_cpus.N",
        kind=CPU_SET,
        rule=NOT_BOTH,
        default="an equal part",
        effect="Which of the guest's CPUs are in node N.",
    ),
    Option(
        field="numa_mem_mib",
        flavor_key="hw:numa_mem.N",
        image_key="hw_numa_mem.N",
        kind=whole(1, MOST_MEMORY_MIB),
        rule=NOT_BOTH,
        default="an equal part",
        effect="How many MiB of the guest's memory are in node N.",
    ),
    Option(
        field="page_size",
        flavor_key="hw:mem_page_size",
        image_key="hw_mem_page_size",
        kind=_PAGE_SIZE,
        rule=PAGE_SIZE_RULE,
        default="small",
        effect="Of which pages of the host the guest's memory is made.",
    ),
    Option(
        field="locked",
        flavor_key="hw:locked_memory",
        image_key="hw_locked_memory",
        kind=BOOLEAN,
        rule=AGREE,
        default="no",
        effect="The guest's memory is never swapped out; needs hw:mem_page_size.",
    ),
    Option(
        field="access",
        flavor_key="hw:mem_access",
        image_key="hw_mem_access",
        kind=one_of(MemoryAccess),
        rule=AGREE,
        default="private",
        effect="Ours. `shared`: processes of the host can map the guest's memory, as virtiofs and vhost-user need.",
    ),
    Option(
        field="encryption",
        flavor_key="hw:mem_encryption",
        image_key="hw_mem_encryption",
        kind=_ENCRYPTION,
        rule=AGREE,
        default="no",
        effect="The guest's memory is encrypted (AMD SEV); needs UEFI and q35.",
    ),
)


def require_sense(options: MemoryOptions) -> None:
    """Refused when options of this theme contradict each other, whatever the flavor's size."""
    if options.locked and options.page_size is None:
        raise Refused("hw:locked_memory: needs hw:mem_page_size; set it, or leave both out")
    nodes = options.numa_nodes or 0
    for key, given in (("hw:numa_cpus", options.numa_cpus), ("hw:numa_mem", options.numa_mem_mib)):
        if given and set(given) != set(range(nodes)):
            listed = ", ".join(str(node) for node in sorted(given))
            raise Refused(
                f"{key}.N: is said for nodes {listed}, and hw:numa_nodes is {nodes or 'not set'};"
                " say it for each node from 0, or for none"
            )
