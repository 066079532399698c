"""How much memory is used: of the host what is neither free, nor buffers, nor cache, as Nova counts it; of a guest what its QEMU
holds, and what the guest itself calls free.
"""

from collections.abc import Mapping
from typing import ClassVar

from taskvisor.compute.monitors.base import GuestLook, Look, Monitor, Values, known

KIB_PER_MIB = 1024


class MemoryMonitor(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = {
        "memory.total": "MiB",
        "memory.used": "MiB",
        "memory.free": "MiB",
        "memory.percent": "of 1",
    }
    guest_metrics: ClassVar[Mapping[str, str]] = {"memory.actual": "MiB", "memory.rss": "MiB", "memory.unused": "MiB"}

    def host_values(self, now: Look, before: Look | None) -> Values:
        """`memory.used` is total less free, buffers and cached."""
        del before
        memory = now.usage.memory
        if memory is None or memory.total_kib <= 0:
            return {}
        used_kib = max(0, memory.total_kib - memory.free_kib - memory.buffers_kib - memory.cached_kib)
        return {
            "memory.total": memory.total_kib / KIB_PER_MIB,
            "memory.used": used_kib / KIB_PER_MIB,
            "memory.free": memory.free_kib / KIB_PER_MIB,
            "memory.percent": used_kib / memory.total_kib,
        }

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:
        """Of one that does not run, only what it would have."""
        del before
        usage = now.usage
        amounts = {"memory.actual": usage.memory_kib, "memory.rss": usage.rss_kib, "memory.unused": usage.unused_kib}
        return known({name: None if kib is None else kib / KIB_PER_MIB for name, kib in amounts.items()})
