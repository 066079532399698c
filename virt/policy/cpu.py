"""The guest's CPUs: what it sees of them, where they run, and how much time they get."""

from taskvisor.model.cpu_words import CpuMatch, CpuMode, FeaturePolicy
from taskvisor.model.errors import DoesNotFit, Refused
from taskvisor.model.numa import GuestPlacement
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Flavor, Instance
from taskvisor.model.states import VirtType
from virt.domain.cpu import (
    CpuCheck,
    CpuConfig,
    CpuFeatureConfig,
    MaxPhysAddrConfig,
    ModelFallback,
    NumaCellConfig,
)
from virt.domain.placement import (
    CpuTuneConfig,
    MemoryNodeConfig,
    NumaMode,
    NumaTuneConfig,
    Scheduler,
    VcpuPinConfig,
    VcpuSchedulerConfig,
)
from virt.options import GuestOptions
from virt.options.cpu import CpuOptions, EmulatorThreads
from virt.policy.choices import HostChoices
from virt.policy.placement import dedicated_vcpus, guest_cells_for
from virt.policy.support import require_offered

EMULATED_CPU = "Nehalem"
"""For TCG: x86-64-v2, which today's distributions need and QEMU's default qemu64 is not; no AVX and no 5-level paging,
which are slow to emulate. A small Linux boots as fast with it as with qemu64, max or EPYC (2.0 to 2.3 s, QEMU 7.2)."""
REALTIME_PRIORITY = 1
"""Of FIFO: above all that is not real time; more would put the guest above threads of the host's kernel."""


def virt_type_for(instance: Instance, host: HypervisorFacts) -> VirtType:
    """How the guest is run. Refused when it was made for KVM and the host has none now."""
    if instance.virt_type is VirtType.KVM and host.virt_type is not VirtType.KVM:
        raise Refused(
            f"cannot render instance {instance.id} for host {instance.host}: it was made for KVM, which the host does not "
            "offer now; look at `taskvisor preflight` there, or rebuild it elsewhere"
        )
    return host.virt_type


def cpu_for(flavor: Flavor, options: GuestOptions, host: HypervisorFacts) -> CpuConfig:
    """What the guest sees. Refused for a topology that does not work out; DoesNotFit for a CPU that the host can't show."""
    wants, is_kvm = options.cpu, host.virt_type is VirtType.KVM
    sockets, cores, threads = topology_for(flavor.vcpus, wants)
    mode = wants.mode or (CpuMode.CUSTOM if wants.model or not is_kvm else CpuMode.HOST_MODEL)
    model = (wants.model or EMULATED_CPU) if mode is CpuMode.CUSTOM else None
    require_offered(host.support.cpu_modes, mode, "CPU mode")
    if mode is CpuMode.HOST_PASSTHROUGH and not is_kvm:
        raise DoesNotFit("hw:cpu_mode=host-passthrough: this host has no KVM, and an emulated CPU is not its own")
    if model is not None:
        require_offered(host.support.cpu_models, model, "CPU model")
    return CpuConfig(
        mode=mode,
        match=CpuMatch.EXACT if model else None,
        check=_check_for(mode, host.virt_type),
        model=model,
        model_fallback=ModelFallback.FORBID if model else None,
        sockets=sockets,
        cores=cores,
        threads=threads,
        max_phys_addr=_max_phys_addr_for(wants),
        features=tuple(
            CpuFeatureConfig(name=flag.name, policy=FeaturePolicy.REQUIRE if flag.wanted else FeaturePolicy.DISABLE)
            for flag in wants.flags
        ),
        numa_cells=tuple(
            NumaCellConfig(id=cell.id, cpus=cell.vcpus, memory_mib=cell.memory_mib, memory_access=options.memory.access)
            for cell in guest_cells_for(flavor, options)
        ),
    )


def topology_for(vcpus: int, wants: CpuOptions) -> tuple[int, int, int]:
    """Sockets, cores and threads: as many as was asked for come true, then few threads and few sockets.

    One socket unless asked: guests schedule best, and some licences count sockets. Refused when a count that is asked for
    exceeds its limit, or no topology of so many CPUs keeps the limits.
    """
    wanted = (wants.sockets, wants.cores, wants.threads)
    limits = (wants.max_sockets, wants.max_cores, wants.max_threads)
    most = tuple(vcpus if limit is None else limit for limit in limits)
    for part, count, limit in zip(("sockets", "cores", "threads"), wanted, limits, strict=True):
        if count is not None and limit is not None and count > limit:
            raise Refused(f"hw:cpu_{part}={count}: hw:cpu_max_{part} is {limit}; change one of them")
    possible = [
        (sockets, cores, vcpus // sockets // cores)
        for sockets in _divisors(vcpus)
        for cores in _divisors(vcpus // sockets)
    ]
    allowed = [shape for shape in possible if all(part <= limit for part, limit in zip(shape, most, strict=True))]
    if not allowed:
        raise Refused(f"hw:cpu_max_sockets, _cores, _threads: {vcpus} CPUs do not fit into {most}; allow more")
    return min(allowed, key=lambda shape: (-_met(shape, wanted), shape[2], shape[0]))


def _met(shape: tuple[int, int, int], wanted: tuple[int | None, ...]) -> int:
    return sum(part == count for part, count in zip(shape, wanted, strict=True))


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def _check_for(mode: CpuMode, virt_type: VirtType) -> CpuCheck | None:
    if virt_type is VirtType.KVM:
        return CpuCheck.PARTIAL if mode in (CpuMode.HOST_MODEL, CpuMode.CUSTOM) else None
    # check none: TCG lacks the model's vme, and a guest does without.
    return CpuCheck.NONE if mode is CpuMode.CUSTOM else None


def _max_phys_addr_for(wants: CpuOptions) -> MaxPhysAddrConfig | None:
    if wants.max_phys_addr_mode is None:
        return None
    return MaxPhysAddrConfig(mode=wants.max_phys_addr_mode, bits=wants.max_phys_addr_bits)


def shared_cpus_for(host: HypervisorFacts, choices: HostChoices) -> frozenset[int]:
    """Where what is not pinned runs: as was said, else on all that are not set aside. None: wherever the host lets it."""
    if choices.shared_cpus or not choices.dedicated_cpus:
        return choices.shared_cpus
    there = frozenset().union(*(cell.cpus for cell in host.cells)) or frozenset(range(host.cpus))
    return there - choices.dedicated_cpus


def cpu_tune_for(
    flavor: Flavor, options: GuestOptions, placement: GuestPlacement | None, choices: HostChoices
) -> CpuTuneConfig | None:
    """Weights, quotas, pins and schedulers; None where nothing is asked for.

    Refused when CPUs are to be pinned and none are held for the guest: two guests would have the same.
    """
    wants, pinned = options.cpu, dedicated_vcpus(flavor, options)
    pins = {} if placement is None else {vcpu: cpus for cell in placement.cells for vcpu, cpus in cell.pins.items()}
    if pinned - pins.keys():
        raise Refused(
            f"hw:cpu_policy={wants.policy}: no CPUs of the host are held for this guest; build it without, or with shared"
        )
    if pinned and choices.shared_cpus:
        pins |= {vcpu: choices.shared_cpus for vcpu in range(flavor.vcpus) if vcpu not in pinned}
    tune = CpuTuneConfig(
        shares=wants.shares,
        period_us=wants.period_us,
        quota_us=wants.quota_us,
        vcpu_pins=tuple(VcpuPinConfig(vcpu=vcpu, cpus=pins[vcpu]) for vcpu in sorted(pins)),
        emulator_cpus=_emulator_cpus_for(wants, pins, placement, choices) if pinned else None,
        vcpu_schedulers=_schedulers_for(flavor, wants, pinned),
    )
    return None if tune == CpuTuneConfig() else tune


def _emulator_cpus_for(
    wants: CpuOptions, pins: dict[int, frozenset[int]], placement: GuestPlacement | None, choices: HostChoices
) -> frozenset[int]:
    if wants.emulator_threads is EmulatorThreads.ISOLATE and placement is not None and placement.emulator_cpus:
        return placement.emulator_cpus
    if wants.emulator_threads is EmulatorThreads.ISOLATE:
        raise Refused("hw:emulator_threads_policy=isolate: no CPU of the host is held for QEMU's own threads")
    if wants.emulator_threads is EmulatorThreads.SHARE and choices.shared_cpus:
        return choices.shared_cpus
    return frozenset().union(*pins.values())


def _schedulers_for(flavor: Flavor, wants: CpuOptions, pinned: frozenset[int]) -> tuple[VcpuSchedulerConfig, ...]:
    if not wants.realtime:
        return ()
    vcpus = pinned if wants.realtime_mask is None else wants.realtime_mask.cpus(flavor.vcpus)
    if not vcpus or not vcpus <= pinned:
        raise Refused("hw:cpu_realtime_mask: it must name some of the guest's pinned CPUs, and no other")
    if vcpus == frozenset(range(flavor.vcpus)) and wants.emulator_threads is None:
        raise Refused("hw:cpu_realtime_mask: it names all CPUs; leave one out, or set hw:emulator_threads_policy")
    return (VcpuSchedulerConfig(vcpus=vcpus, scheduler=Scheduler.FIFO, priority=REALTIME_PRIORITY),)


def numa_tune_for(placement: GuestPlacement | None) -> NumaTuneConfig | None:
    """The guest's memory lies in the cells where its CPUs are, or it does not start."""
    if placement is None or not placement.cells:
        return None
    return NumaTuneConfig(
        mode=NumaMode.STRICT,
        nodes=frozenset(cell.host_cell for cell in placement.cells),
        memory_nodes=tuple(
            MemoryNodeConfig(cell=cell.guest_cell, mode=NumaMode.STRICT, nodes=frozenset({cell.host_cell}))
            for cell in placement.cells
        ),
    )
