"""What processes have cost so far: CPU time and memory, from /proc."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

MIB = 1 << 20

Processes = Mapping[str, tuple[psutil.Process, ...]]
"""By program."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of some processes together. RSS counts a page once for each process that shares it, PSS once in all."""

    processes: int
    rss_mib: float
    pss_mib: float


def cpu_s_of(processes: Processes) -> Mapping[str, float]:
    """User and system time by program, since each process was started."""
    return {name: sum(sum(process.cpu_times()[:2]) for process in some) for name, some in processes.items()}


def memory_of(processes: Processes) -> Mapping[str, Memory]:
    """Memory by program."""
    return {name: _memory(some) for name, some in processes.items()}


def total_of(memories: Iterable[Memory]) -> Memory:
    some = tuple(memories)
    return Memory(
        processes=sum(memory.processes for memory in some),
        rss_mib=sum(memory.rss_mib for memory in some),
        pss_mib=sum(memory.pss_mib for memory in some),
    )


def _memory(processes: tuple[psutil.Process, ...]) -> Memory:
    found = [process.memory_full_info() for process in processes]
    return Memory(
        processes=len(found),
        rss_mib=sum(info.rss for info in found) / MIB,
        pss_mib=sum(info.pss for info in found) / MIB,
    )
