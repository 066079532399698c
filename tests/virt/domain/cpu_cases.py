"""Every option of CPU and memory, and of where they lie on the host."""

from collections.abc import Mapping
from dataclasses import replace

from taskvisor.model.cpu_words import CpuMatch, CpuMode, FeaturePolicy
from tests.virt.domain.bases import PC
from virt.domain.board_devices import DimmConfig
from virt.domain.cpu import (
    CpuCheck,
    CpuConfig,
    CpuFeatureConfig,
    MaxPhysAddrConfig,
    ModelFallback,
    NumaCellConfig,
    PhysAddrMode,
)
from virt.domain.domain import DomainConfig
from virt.domain.memory import (
    HugePageConfig,
    MaxMemoryConfig,
    MemoryAccess,
    MemoryAllocation,
    MemoryBackingConfig,
    MemorySource,
    MemoryTuneConfig,
)
from virt.domain.placement import (
    CpuTuneConfig,
    IothreadPinConfig,
    MemoryNodeConfig,
    NumaMode,
    NumaTuneConfig,
    PerfConfig,
    PerfEvent,
    Scheduler,
    VcpuPinConfig,
    VcpuPlacement,
    VcpuSchedulerConfig,
    VcpusConfig,
)

TOPOLOGY = CpuConfig(sockets=1, cores=4, threads=1)
TWO_CELLS = (
    NumaCellConfig(id=0, cpus=frozenset({0, 1}), memory_mib=256, memory_access=MemoryAccess.SHARED, discard=True),
    NumaCellConfig(id=1, cpus=frozenset({2, 3}), memory_mib=256, memory_access=MemoryAccess.PRIVATE, discard=False),
)


def cpu_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    return {**_model_cases(), **_placement_cases(), **_memory_cases()}


def _model_cases() -> dict[str, DomainConfig]:
    features = (
        CpuFeatureConfig(name="pcid", policy=FeaturePolicy.REQUIRE),
        CpuFeatureConfig(name="aes", policy=FeaturePolicy.OPTIONAL),
        CpuFeatureConfig(name="vmx", policy=FeaturePolicy.DISABLE),
        CpuFeatureConfig(name="avx", policy=FeaturePolicy.FORBID),
        CpuFeatureConfig(name="ssse3", policy=FeaturePolicy.FORCE),
    )
    exact = replace(
        TOPOLOGY, mode=CpuMode.CUSTOM, match=CpuMatch.EXACT, check=CpuCheck.FULL, model="Nehalem", features=features
    )
    minimum = CpuConfig(
        sockets=2,
        dies=2,
        cores=2,
        threads=2,
        mode=CpuMode.CUSTOM,
        match=CpuMatch.MINIMUM,
        check=CpuCheck.PARTIAL,
        model="Penryn",
        model_fallback=ModelFallback.ALLOW,
        features=(CpuFeatureConfig(name="pcid", policy=FeaturePolicy.REQUIRE),),
    )
    strict = replace(minimum, dies=None, match=CpuMatch.STRICT, check=CpuCheck.NONE)
    strict = replace(strict, model_fallback=ModelFallback.FORBID)
    passthrough = replace(
        TOPOLOGY,
        mode=CpuMode.HOST_PASSTHROUGH,
        check=CpuCheck.NONE,
        max_phys_addr=MaxPhysAddrConfig(mode=PhysAddrMode.PASSTHROUGH),
    )
    emulate = MaxPhysAddrConfig(mode=PhysAddrMode.EMULATE, bits=42)
    return {
        "cpu_exact": replace(PC, cpu=exact),
        "cpu_minimum": replace(PC, cpu=minimum, vcpus=VcpusConfig(count=16)),
        "cpu_strict": replace(PC, cpu=strict, vcpus=VcpusConfig(count=8)),
        "cpu_host_passthrough": replace(PC, cpu=passthrough),
        "cpu_maximum": replace(PC, cpu=replace(TOPOLOGY, mode=CpuMode.MAXIMUM, max_phys_addr=emulate)),
    }


def _placement_cases() -> dict[str, DomainConfig]:
    pinned = CpuTuneConfig(
        vcpu_pins=tuple(VcpuPinConfig(vcpu=vcpu, cpus=frozenset({vcpu % 2})) for vcpu in range(4)),
        emulator_cpus=frozenset({0, 1}),
        iothread_pins=(
            IothreadPinConfig(iothread=1, cpus=frozenset({0})),
            IothreadPinConfig(iothread=2, cpus=frozenset({1})),
        ),
        vcpu_schedulers=(
            VcpuSchedulerConfig(vcpus=frozenset({0}), scheduler=Scheduler.FIFO, priority=1),
            VcpuSchedulerConfig(vcpus=frozenset({1}), scheduler=Scheduler.RR, priority=2),
            VcpuSchedulerConfig(vcpus=frozenset({2}), scheduler=Scheduler.BATCH),
            VcpuSchedulerConfig(vcpus=frozenset({3}), scheduler=Scheduler.IDLE),
        ),
    )
    quotas = CpuTuneConfig(
        shares=1024, period_us=100000, quota_us=50000, emulator_period_us=100000, emulator_quota_us=25000
    )
    host_nodes = frozenset({0})
    nodes = NumaTuneConfig(
        mode=NumaMode.STRICT,
        nodes=host_nodes,
        memory_nodes=(
            MemoryNodeConfig(cell=0, mode=NumaMode.PREFERRED, nodes=host_nodes),
            MemoryNodeConfig(cell=1, mode=NumaMode.INTERLEAVE, nodes=frozenset({0, 1})),
        ),
    )
    spread = NumaTuneConfig(mode=NumaMode.RESTRICTIVE, nodes=frozenset({0, 1, 2, 4}))
    return {
        "cpu_pinned": replace(
            PC,
            vcpus=VcpusConfig(count=4, placement=VcpuPlacement.STATIC, cpus=frozenset({0, 1}), current=2),
            iothreads=2,
            cpu_tune=pinned,
        ),
        "cpu_quotas": replace(PC, cpu_tune=quotas, vcpus=VcpusConfig(count=4, placement=VcpuPlacement.AUTO)),
        "numa_cells": replace(
            PC, cpu=replace(TOPOLOGY, mode=CpuMode.MAXIMUM, numa_cells=TWO_CELLS), numa_tune=nodes, iothreads=1
        ),
        "numa_restrictive": replace(PC, numa_tune=spread, cpu_tune=CpuTuneConfig(shares=2048)),
        "perf_events": replace(PC, perf=PerfConfig(events=tuple(PerfEvent))),
        "perf_one_event": replace(PC, perf=PerfConfig(events=(PerfEvent.CPU_CYCLES,)), partition="/machine/ci"),
    }


def _memory_cases() -> dict[str, DomainConfig]:
    huge = MemoryBackingConfig(
        huge_pages=(
            HugePageConfig(size_kib=2048, nodes=frozenset({0})),
            HugePageConfig(size_kib=1048576, nodes=frozenset({1})),
        ),
        no_share_pages=True,
        locked=True,
        access=MemoryAccess.PRIVATE,
        allocation=MemoryAllocation.IMMEDIATE,
        discard=True,
    )
    limits = MemoryTuneConfig(hard_limit_kib=4194304, soft_limit_kib=2097152, swap_hard_limit_kib=8388608)
    cells = replace(TOPOLOGY, numa_cells=tuple(replace(cell, memory_mib=1024) for cell in TWO_CELLS))
    shared = MemoryBackingConfig(
        source=MemorySource.MEMFD, access=MemoryAccess.SHARED, allocation=MemoryAllocation.ON_DEMAND
    )
    sticks = (
        DimmConfig(memory_mib=512, numa_cell=0, access=MemoryAccess.SHARED, discard=True, alias="ua-dimm0"),
        DimmConfig(
            memory_mib=1024,
            numa_cell=1,
            access=MemoryAccess.PRIVATE,
            discard=False,
            page_size_kib=4,
            host_nodes=frozenset({0}),
        ),
    )
    return {
        "memory_huge_pages": replace(PC, memory_mib=2048, memory_backing=huge, memory_tune=limits, cpu=cells),
        "memory_shared": replace(PC, current_memory_mib=256, memory_backing=shared),
        "memory_of_a_file": replace(PC, memory_backing=MemoryBackingConfig(source=MemorySource.FILE)),
        "memory_anonymous": replace(
            PC,
            memory_backing=MemoryBackingConfig(source=MemorySource.ANONYMOUS),
            memory_tune=MemoryTuneConfig(hard_limit_kib=2097152),
        ),
        "memory_sticks": replace(
            PC,
            cpu=replace(TOPOLOGY, numa_cells=TWO_CELLS),
            max_memory=MaxMemoryConfig(slots=8, memory_mib=4096),
            memory_mib=2048,
            devices=sticks,
        ),
        "memory_can_grow": replace(
            PC, cpu=replace(TOPOLOGY, numa_cells=TWO_CELLS), max_memory=MaxMemoryConfig(slots=16, memory_mib=8192)
        ),
    }
