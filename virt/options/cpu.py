"""What can be asked of a guest's CPUs: which model, how many in a socket, on which CPUs of the host, how much time."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.cpu_words import CpuMode
from taskvisor.model.errors import Refused
from taskvisor.model.numa import CpuThreadPolicy
from virt.domain.cpu import PhysAddrMode
from virt.options.kinds import BOOLEAN, CPU_FLAGS, CPU_MASK, CpuFlag, CpuMask, matching, one_of, whole
from virt.options.option import AGREE, FLAVOR_BOUNDS, IMAGE_FIRST, ONE_PLACE, Given, Option, Rule, conflict

MOST_VCPUS = 4096


class CpuPolicy(StrEnum):
    SHARED = "shared"  # the guest's CPUs float over the host's
    DEDICATED = "dedicated"  # each has one of the host's for itself
    MIXED = "mixed"  # some of them do


class EmulatorThreads(StrEnum):
    """Where QEMU's own threads run, of a pinned guest."""

    SHARE = "share"  # on the host's shared CPUs
    ISOLATE = "isolate"  # on one more CPU of their own


@dataclass(frozen=True, kw_only=True)
class CpuOptions:
    """Counts of None are left to us; `shares`, `period_us` and `quota_us` are the cgroup's."""

    policy: CpuPolicy = CpuPolicy.SHARED
    thread_policy: CpuThreadPolicy | None = None
    dedicated: CpuMask | None = None
    emulator_threads: EmulatorThreads | None = None
    realtime: bool = False
    realtime_mask: CpuMask | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    max_sockets: int | None = None
    max_cores: int | None = None
    max_threads: int | None = None
    mode: CpuMode | None = None
    model: str | None = None
    flags: tuple[CpuFlag, ...] = ()
    max_phys_addr_mode: PhysAddrMode | None = None
    max_phys_addr_bits: int | None = None
    pmu: bool | None = None
    hidden: bool = False
    shares: int | None = None
    period_us: int | None = None
    quota_us: int | None = None


def _policy(flavor: Given | None, image: Given | None) -> object | None:
    # A dedicated flavor may have any image; another flavor is not to be made costlier by an image.
    if flavor is None:
        return None if image is None else image.value
    if image is not None and flavor.value is not CpuPolicy.DEDICATED and image.value is not CpuPolicy.SHARED:
        if flavor.value is not image.value:
            raise conflict(flavor, image, "an image can't take CPUs that the flavor does not give")
        return flavor.value
    return flavor.value


def _thread_policy(flavor: Given | None, image: Given | None) -> object | None:
    if flavor is not None and image is not None and flavor.value not in (CpuThreadPolicy.PREFER, image.value):
        raise conflict(flavor, image, "only a flavor that prefers leaves it to the image")
    given = image or flavor
    return None if given is None else given.value


POLICY_RULE = Rule(words="the flavor; an image must not ask for more", choose=_policy)
THREAD_RULE = Rule(
    words="the image, where the flavor says nothing or prefer; else they must agree", choose=_thread_policy
)
_COUNT = whole(1, MOST_VCPUS)
_MODEL = matching(r"[A-Za-z0-9_.-]{1,64}", "the name of a CPU model, like Nehalem")


def _counts() -> tuple[Option, ...]:
    wanted = tuple(
        Option(
            field=part,
            flavor_key=f"hw:cpu_{part}",
            image_key=f"hw_cpu_{part}",
            kind=_COUNT,
            rule=IMAGE_FIRST,
            default=default,
            effect=f"How many {part} {where}. An image that says any of the three replaces all three of the flavor.",
        )
        for part, where, default in (
            ("sockets", "the guest has", "1"),
            ("cores", "a socket has", "what is left"),
            ("threads", "a core has", "1"),
        )
    )
    most = tuple(
        Option(
            field=f"max_{part}",
            flavor_key=f"hw:cpu_max_{part}",
            image_key=f"hw_cpu_max_{part}",
            kind=_COUNT,
            rule=FLAVOR_BOUNDS,
            default="no limit",
            effect=f"The most {part} that the topology may have.",
        )
        for part in ("sockets", "cores", "threads")
    )
    return wanted + most


CPU_OPTIONS = (
    Option(
        field="policy",
        flavor_key="hw:cpu_policy",
        image_key="hw_cpu_policy",
        kind=one_of(CpuPolicy),
        rule=POLICY_RULE,
        default="shared",
        effect="Whether the guest's CPUs float over the host's, or each is pinned to one of its own.",
    ),
    Option(
        field="thread_policy",
        flavor_key="hw:cpu_thread_policy",
        image_key="hw_cpu_thread_policy",
        kind=one_of(CpuThreadPolicy),
        rule=THREAD_RULE,
        default="prefer",
        effect="Whether pinned CPUs share cores of the host.",
    ),
    Option(
        field="dedicated",
        flavor_key="hw:cpu_dedicated_mask",
        kind=CPU_MASK,
        rule=ONE_PLACE,
        default="none",
        effect="Which of the guest's CPUs are pinned under the policy mixed.",
    ),
    Option(
        field="emulator_threads",
        flavor_key="hw:emulator_threads_policy",
        kind=one_of(EmulatorThreads),
        rule=ONE_PLACE,
        default="on the guest's own CPUs",
        effect="Where QEMU's own threads run, of a pinned guest.",
    ),
    Option(
        field="realtime",
        flavor_key="hw:cpu_realtime",
        kind=BOOLEAN,
        rule=ONE_PLACE,
        default="no",
        effect="Pinned CPUs are scheduled in real time (FIFO), and the guest's memory is locked.",
    ),
    Option(
        field="realtime_mask",
        flavor_key="hw:cpu_realtime_mask",
        image_key="hw_cpu_realtime_mask",
        kind=CPU_MASK,
        rule=IMAGE_FIRST,
        default="all",
        effect="Which CPUs are scheduled in real time; at least one must not be, unless the emulator has its own.",
    ),
    *_counts(),
    Option(
        field="mode",
        flavor_key="hw:cpu_mode",
        image_key="hw_cpu_mode",
        kind=one_of(CpuMode),
        rule=AGREE,
        default="host-model with KVM, custom without",
        effect="Ours. Which CPU the guest sees: a named one, one like the host's, the host's, or all that QEMU can do.",
    ),
    Option(
        field="model",
        flavor_key="hw:cpu_model",
        image_key="hw_cpu_model",
        kind=_MODEL,
        rule=AGREE,
        default="none; Nehalem without KVM",
        effect="Ours. The CPU that the mode custom names.",
    ),
    Option(
        field="flags",
        flavor_key="hw:cpu_flags",
        image_key="hw_cpu_flags",
        kind=CPU_FLAGS,
        rule=AGREE,
        default="none",
        effect="Ours. Flags that the CPU must have, or (with -) must not.",
    ),
    Option(
        field="max_phys_addr_mode",
        flavor_key="hw:maxphysaddr_mode",
        image_key="hw_maxphysaddr_mode",
        kind=one_of(PhysAddrMode),
        rule=AGREE,
        default="QEMU's",
        effect="Whose width of physical addresses the guest has.",
    ),
    Option(
        field="max_phys_addr_bits",
        flavor_key="hw:maxphysaddr_bits",
        image_key="hw_maxphysaddr_bits",
        kind=whole(32, 64),
        rule=AGREE,
        default="QEMU's",
        effect="The width of physical addresses, in the mode emulate.",
    ),
    Option(
        field="pmu",
        flavor_key="hw:pmu",
        image_key="hw_pmu",
        kind=BOOLEAN,
        rule=AGREE,
        default="the hypervisor's",
        effect="Whether the guest has performance counters.",
    ),
    Option(
        field="hidden",
        flavor_key="hw:hide_hypervisor_id",
        other_flavor_key="hide_hypervisor_id",
        image_key="img_hide_hypervisor_id",
        kind=BOOLEAN,
        rule=AGREE,
        default="no",
        effect="The guest is not told that it runs under KVM, for drivers that refuse to.",
    ),
    Option(
        field="shares",
        flavor_key="quota:cpu_shares",
        kind=whole(2, 262_144),
        rule=ONE_PLACE,
        default="the host's",
        effect="The guest's weight against other guests when CPU time is short.",
    ),
    Option(
        field="period_us",
        flavor_key="quota:cpu_period",
        kind=whole(1000, 1_000_000),
        rule=ONE_PLACE,
        default="100000",
        effect="In µs, over which the quota is counted.",
    ),
    Option(
        field="quota_us",
        flavor_key="quota:cpu_quota",
        kind=whole(-1, 18_446_744_073_709),
        rule=ONE_PLACE,
        default="no limit",
        effect="How many µs each CPU may run in a period; -1: no limit.",
    ),
)


def require_sense(options: CpuOptions) -> None:
    """Refused when options of this theme contradict each other, whatever the flavor's size."""
    pinned = options.policy is not CpuPolicy.SHARED
    if options.thread_policy is not None and not pinned:
        raise _needs("hw:cpu_thread_policy", "hw:cpu_policy=dedicated or mixed")
    if options.emulator_threads is not None and not pinned:
        raise _needs("hw:emulator_threads_policy", "hw:cpu_policy=dedicated or mixed")
    if options.realtime and not pinned:
        raise _needs("hw:cpu_realtime", "hw:cpu_policy=dedicated or mixed")
    if options.realtime and options.realtime_mask is None and options.emulator_threads is None:
        raise _needs(
            "hw:cpu_realtime", "hw:cpu_realtime_mask or hw:emulator_threads_policy: something must run QEMU itself"
        )
    if options.policy is CpuPolicy.MIXED and options.dedicated is None and not options.realtime:
        raise _needs("hw:cpu_policy=mixed", "hw:cpu_dedicated_mask")
    if options.dedicated is not None and options.policy is not CpuPolicy.MIXED:
        raise _needs("hw:cpu_dedicated_mask", "hw:cpu_policy=mixed")
    if options.model is not None and options.mode not in (None, CpuMode.CUSTOM):
        raise Refused(f"hw:cpu_model={options.model}: the mode {options.mode} takes no model; use hw:cpu_mode=custom")
    if options.mode is CpuMode.CUSTOM and options.model is None:
        raise _needs("hw:cpu_mode=custom", "hw:cpu_model")
    if options.max_phys_addr_bits is not None and options.max_phys_addr_mode is not PhysAddrMode.EMULATE:
        raise _needs("hw:maxphysaddr_bits", "hw:maxphysaddr_mode=emulate")
    if options.max_phys_addr_mode is PhysAddrMode.EMULATE and options.max_phys_addr_bits is None:
        raise _needs("hw:maxphysaddr_mode=emulate", "hw:maxphysaddr_bits")


def _needs(key: str, other: str) -> Refused:
    return Refused(f"{key}: needs {other}; set it, or leave both out")
