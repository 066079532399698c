"""Which CPUs and memory nodes of the host a guest gets, and how large a share of them."""

from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from virt.domain.config import Config, element, number_set, text_element, unless_empty


class VcpuPlacement(StrEnum):
    STATIC = "static"
    AUTO = "auto"  # as numad advises


class Scheduler(StrEnum):
    """The host's scheduling class of a thread (sched(7))."""

    BATCH = "batch"
    IDLE = "idle"
    FIFO = "fifo"
    RR = "rr"


class NumaMode(StrEnum):
    STRICT = "strict"
    PREFERRED = "preferred"
    INTERLEAVE = "interleave"
    RESTRICTIVE = "restrictive"


class PerfEvent(StrEnum):
    """What of the guest the host's performance counters count (virConnectGetAllDomainStats)."""

    CMT = "cmt"
    MBMT = "mbmt"
    MBML = "mbml"
    CPU_CYCLES = "cpu_cycles"
    INSTRUCTIONS = "instructions"
    CACHE_REFERENCES = "cache_references"
    CACHE_MISSES = "cache_misses"
    BRANCH_INSTRUCTIONS = "branch_instructions"
    BRANCH_MISSES = "branch_misses"
    BUS_CYCLES = "bus_cycles"
    STALLED_CYCLES_FRONTEND = "stalled_cycles_frontend"
    STALLED_CYCLES_BACKEND = "stalled_cycles_backend"
    REF_CPU_CYCLES = "ref_cpu_cycles"
    CPU_CLOCK = "cpu_clock"
    TASK_CLOCK = "task_clock"
    PAGE_FAULTS = "page_faults"
    CONTEXT_SWITCHES = "context_switches"
    CPU_MIGRATIONS = "cpu_migrations"
    PAGE_FAULTS_MINOR = "page_faults_min"
    PAGE_FAULTS_MAJOR = "page_faults_maj"
    ALIGNMENT_FAULTS = "alignment_faults"
    EMULATION_FAULTS = "emulation_faults"


@dataclass(frozen=True, kw_only=True)
class VcpusConfig(Config):
    """How many virtual CPUs there are, and on which of the host's they may run.

        <vcpu placement="static" cpuset="0-3" current="2">4</vcpu>

    `current`: those plugged in at the start. https://libvirt.org/formatdomain.html#cpu-allocation
    """

    count: int
    placement: VcpuPlacement | None = None
    cpus: frozenset[int] | None = None
    current: int | None = None

    def to_element(self) -> etree._Element:
        return element(
            "vcpu", text=self.count, placement=self.placement, cpuset=number_set(self.cpus), current=self.current
        )


@dataclass(frozen=True, kw_only=True)
class VcpuPinConfig(Config):
    """The host's CPUs that one virtual CPU runs on.

    <vcpupin vcpu="0" cpuset="4"/>
    """

    vcpu: int
    cpus: frozenset[int]

    def to_element(self) -> etree._Element:
        return element("vcpupin", vcpu=self.vcpu, cpuset=number_set(self.cpus))


@dataclass(frozen=True, kw_only=True)
class IothreadPinConfig(Config):
    """The host's CPUs that one I/O thread runs on; I/O threads count from 1.

    <iothreadpin iothread="1" cpuset="0-1"/>
    """

    iothread: int
    cpus: frozenset[int]

    def to_element(self) -> etree._Element:
        return element("iothreadpin", iothread=self.iothread, cpuset=number_set(self.cpus))


@dataclass(frozen=True, kw_only=True)
class VcpuSchedulerConfig(Config):
    """How the host schedules some virtual CPUs. The real-time classes have a priority from 1 to 99.

    <vcpusched vcpus="0-1" scheduler="fifo" priority="1"/>
    """

    vcpus: frozenset[int]
    scheduler: Scheduler
    priority: int | None = None

    def to_element(self) -> etree._Element:
        return element("vcpusched", vcpus=number_set(self.vcpus), scheduler=self.scheduler, priority=self.priority)


@dataclass(frozen=True, kw_only=True)
class CpuTuneConfig(Config):
    """The guest's part of the host's CPU time.

        <cputune>
          <shares>1024</shares>
          <period>100000</period>
          <quota>50000</quota>
          <emulator_period>100000</emulator_period>
          <emulator_quota>50000</emulator_quota>
          <vcpupin …/>
          <emulatorpin cpuset="0-1"/>
          <iothreadpin …/>
          <vcpusched …/>
        </cputune>

    `shares` weighs guests against each other; in each `period_us` a virtual CPU runs for at most `quota_us`.
    https://libvirt.org/formatdomain.html#cpu-tuning
    """

    shares: int | None = None
    period_us: int | None = None
    quota_us: int | None = None
    emulator_period_us: int | None = None
    emulator_quota_us: int | None = None
    vcpu_pins: tuple[VcpuPinConfig, ...] = ()
    emulator_cpus: frozenset[int] | None = None
    iothread_pins: tuple[IothreadPinConfig, ...] = ()
    vcpu_schedulers: tuple[VcpuSchedulerConfig, ...] = ()

    def to_element(self) -> etree._Element:
        return element(
            "cputune",
            [
                text_element("shares", self.shares),
                text_element("period", self.period_us),
                text_element("quota", self.quota_us),
                text_element("emulator_period", self.emulator_period_us),
                text_element("emulator_quota", self.emulator_quota_us),
                *(pin.to_element() for pin in self.vcpu_pins),
                unless_empty(element("emulatorpin", cpuset=number_set(self.emulator_cpus))),
                *(pin.to_element() for pin in self.iothread_pins),
                *(scheduler.to_element() for scheduler in self.vcpu_schedulers),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class MemoryNodeConfig(Config):
    """The host's nodes that the memory of one of the guest's NUMA cells comes from.

    <memnode cellid="0" mode="strict" nodeset="1"/>
    """

    cell: int
    mode: NumaMode
    nodes: frozenset[int]

    def to_element(self) -> etree._Element:
        return element("memnode", cellid=self.cell, mode=self.mode, nodeset=number_set(self.nodes))


@dataclass(frozen=True, kw_only=True)
class NumaTuneConfig(Config):
    """The host's memory nodes that the guest's memory comes from.

        <numatune>
          <memory mode="strict" nodeset="0-1"/>
          <memnode …/>
        </numatune>

    https://libvirt.org/formatdomain.html#numa-node-tuning
    """

    mode: NumaMode | None = None
    nodes: frozenset[int] | None = None
    memory_nodes: tuple[MemoryNodeConfig, ...] = ()

    def to_element(self) -> etree._Element:
        memory = unless_empty(element("memory", mode=self.mode, nodeset=number_set(self.nodes)))
        return element("numatune", [memory, *(node.to_element() for node in self.memory_nodes)])


@dataclass(frozen=True, kw_only=True)
class PerfConfig(Config):
    """What is counted of the guest.

        <perf>
          <event name="cpu_cycles" enabled="yes"/>
        </perf>

    https://libvirt.org/formatdomain.html#performance-monitoring-events
    """

    events: tuple[PerfEvent, ...]

    def to_element(self) -> etree._Element:
        return element("perf", [element("event", name=event, enabled="yes") for event in self.events])
