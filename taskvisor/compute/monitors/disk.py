"""How full the place is where guests' disks are made, and how fast each guest reads and writes."""

from collections.abc import Mapping
from typing import ClassVar

from taskvisor.compute.monitors.base import GuestLook, Look, Monitor, Values, known, per_second


class DiskMonitor(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = {"disk.total": "GiB", "disk.free": "GiB", "disk.percent": "of 1"}
    guest_metrics: ClassVar[Mapping[str, str]] = {
        "disk.read.bytes": "B/s",
        "disk.write.bytes": "B/s",
        "disk.read.requests": "1/s",
        "disk.write.requests": "1/s",
    }

    def host_values(self, now: Look, before: Look | None) -> Values:
        """`disk.percent` is what is not free, of the whole."""
        del before
        total, free = now.disk_total_gib, now.disk_free_gib
        told = {"disk.total": float(total), "disk.free": float(free)}
        return {**told, "disk.percent": (total - free) / total} if total > 0 else told

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:
        """Of all its disks together, since the look before."""
        counters, former = now.usage.disks, before.usage.disks if before is not None else None
        if counters is None or former is None or before is None:
            return {}
        elapsed_s = now.at_s - before.at_s
        return known(
            {
                "disk.read.bytes": per_second(counters.read_bytes, former.read_bytes, elapsed_s),
                "disk.write.bytes": per_second(counters.write_bytes, former.write_bytes, elapsed_s),
                "disk.read.requests": per_second(counters.read_requests, former.read_requests, elapsed_s),
                "disk.write.requests": per_second(counters.write_requests, former.write_requests, elapsed_s),
            }
        )
