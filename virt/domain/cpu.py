"""The CPUs that the guest sees: model, flags, topology, and how they and its memory lie in NUMA cells."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from taskvisor.model.cpu_words import CpuMatch, CpuMode, FeaturePolicy
from virt.domain.config import Config, element, element_of, number_set, unless_empty, yes_no
from virt.domain.memory import MemoryAccess


class CpuCheck(StrEnum):
    """What is compared before the guest starts."""

    NONE = "none"
    PARTIAL = "partial"  # libvirt's own knowledge of the host
    FULL = "full"  # the CPU that QEMU made, after the fact


class ModelFallback(StrEnum):
    """Whether libvirt may take a lesser model when the hypervisor lacks this one."""

    ALLOW = "allow"
    FORBID = "forbid"


class PhysAddrMode(StrEnum):
    """How many bits a physical address of the guest has."""

    PASSTHROUGH = "passthrough"  # as many as the host's
    EMULATE = "emulate"  # as many as `bits` says


@dataclass(frozen=True, kw_only=True)
class CpuFeatureConfig(Config):
    """A flag on top of what the model has, or taken off it.

        <feature policy="require" name="pcid"/>

    https://libvirt.org/formatdomain.html#cpu-model-and-topology
    """

    name: str
    policy: FeaturePolicy

    def to_element(self) -> etree._Element:
        return element("feature", policy=self.policy, name=self.name)


@dataclass(frozen=True, kw_only=True)
class MaxPhysAddrConfig(Config):
    """The width of a physical address.

        <maxphysaddr mode="emulate" bits="42"/>

    https://libvirt.org/formatdomain.html#cpu-model-and-topology (since 8.7.0)
    """

    mode: PhysAddrMode
    bits: int | None = None

    def to_element(self) -> etree._Element:
        return element("maxphysaddr", mode=self.mode, bits=self.bits)


@dataclass(frozen=True, kw_only=True)
class NumaCellConfig(Config):
    """One NUMA node of the guest.

        <cell id="0" cpus="0-1" memory="1048576" unit="KiB" memAccess="shared" discard="yes"/>

    https://libvirt.org/formatdomain.html#guest-numa-topology
    """

    id: int
    cpus: frozenset[int]
    memory_mib: int
    memory_access: MemoryAccess | None = None
    discard: bool | None = None

    def to_element(self) -> etree._Element:
        return element(
            "cell",
            id=self.id,
            cpus=number_set(self.cpus),
            memory=self.memory_mib * 1024,
            unit="KiB",
            memAccess=self.memory_access,
            discard=yes_no(self.discard),
        )


@dataclass(frozen=True, kw_only=True)
class CpuConfig(Config):
    """The CPU that the guest sees. Without a mode QEMU's own default model is used.

        <cpu mode="custom" match="exact" check="none">
          <model fallback="forbid">Nehalem</model>
          <topology sockets="1" dies="1" cores="4" threads="1"/>
          <maxphysaddr mode="passthrough"/>
          <feature policy="require" name="pcid"/>
          <numa>
            <cell …/>
          </numa>
        </cpu>

    https://libvirt.org/formatdomain.html#cpu-model-and-topology
    """

    sockets: int
    cores: int
    threads: int
    dies: int | None = None
    mode: CpuMode | None = None
    match: CpuMatch | None = None
    check: CpuCheck | None = None
    model: str | None = None
    model_fallback: ModelFallback | None = None
    max_phys_addr: MaxPhysAddrConfig | None = None
    features: tuple[CpuFeatureConfig, ...] = ()
    numa_cells: tuple[NumaCellConfig, ...] = ()

    def to_element(self) -> etree._Element:
        return element(
            "cpu",
            [
                unless_empty(element("model", text=self.model, fallback=self.model_fallback)),
                element("topology", sockets=self.sockets, dies=self.dies, cores=self.cores, threads=self.threads),
                element_of(self.max_phys_addr),
                *(feature.to_element() for feature in self.features),
                unless_empty(element("numa", [cell.to_element() for cell in self.numa_cells])),
            ],
            mode=self.mode,
            match=self.match,
            check=self.check,
        )
