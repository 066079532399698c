"""What the guest's memory is made of on the host, and how much of the host's it may take."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, flag_element, number_set, text_element, unless_empty


class MemorySource(StrEnum):
    FILE = "file"
    ANONYMOUS = "anonymous"
    MEMFD = "memfd"


class MemoryAccess(StrEnum):
    """Whether other processes of the host (virtiofsd, a vhost-user switch) can map the guest's memory."""

    SHARED = "shared"
    PRIVATE = "private"


class MemoryAllocation(StrEnum):
    IMMEDIATE = "immediate"  # all of it at the start
    ON_DEMAND = "ondemand"


@dataclass(frozen=True, kw_only=True)
class HugePageConfig(Config):
    """Pages of one size, for some of the guest's NUMA nodes or for all.

        <page size="2048" unit="KiB" nodeset="0"/>

    https://libvirt.org/formatdomain.html#memory-backing
    """

    size_kib: int
    nodes: frozenset[int] | None = None

    def to_element(self) -> etree._Element:
        return element("page", size=self.size_kib, unit="KiB", nodeset=number_set(self.nodes))


@dataclass(frozen=True, kw_only=True)
class MemoryBackingConfig(Config):
    """What the guest's memory is made of.

        <memoryBacking>
          <hugepages>
            <page …/>
          </hugepages>
          <nosharepages/>
          <locked/>
          <source type="memfd"/>
          <access mode="shared"/>
          <allocation mode="immediate"/>
          <discard/>
        </memoryBacking>

    https://libvirt.org/formatdomain.html#memory-backing
    """

    huge_pages: tuple[HugePageConfig, ...] = ()
    no_share_pages: bool = False
    locked: bool = False
    source: MemorySource | None = None
    access: MemoryAccess | None = None
    allocation: MemoryAllocation | None = None
    discard: bool = False

    def to_element(self) -> etree._Element:
        return element(
            "memoryBacking",
            [
                unless_empty(element("hugepages", [page.to_element() for page in self.huge_pages])),
                flag_element("nosharepages", self.no_share_pages),
                flag_element("locked", self.locked),
                unless_empty(element("source", type=self.source)),
                unless_empty(element("access", mode=self.access)),
                unless_empty(element("allocation", mode=self.allocation)),
                flag_element("discard", self.discard),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class MemoryTuneConfig(Config):
    """How much of the host's memory QEMU may take, all of its own included.

        <memtune>
          <hard_limit unit="KiB">1048576</hard_limit>
          <soft_limit unit="KiB">524288</soft_limit>
          <swap_hard_limit unit="KiB">2097152</swap_hard_limit>
        </memtune>

    https://libvirt.org/formatdomain.html#memory-tuning
    """

    hard_limit_kib: int | None = None
    soft_limit_kib: int | None = None
    swap_hard_limit_kib: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "memtune",
            [
                text_element("hard_limit", self.hard_limit_kib, unit="KiB"),
                text_element("soft_limit", self.soft_limit_kib, unit="KiB"),
                text_element("swap_hard_limit", self.swap_hard_limit_kib, unit="KiB"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class MaxMemoryConfig(Config):
    """How far the guest's memory can grow, and in how many sticks. Needs NUMA cells.

        <maxMemory slots="16" unit="KiB">4194304</maxMemory>

    https://libvirt.org/formatdomain.html#memory-allocation
    """

    slots: int
    memory_mib: int

    def to_element(self) -> etree._Element:
        return element("maxMemory", text=self.memory_mib * 1024, slots=self.slots, unit="KiB")
