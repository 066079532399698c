"""How busy the CPUs are: Nova's ten metrics of a host, and what of its CPUs each guest uses.

Names, units and formulas of the host's are those of Nova's ComputeDriverCPUMonitor: times in nanoseconds since the host booted,
the frequency in MHz, percentages as parts of 1. Nova's first sample takes zero for the one before, and so tells the mean
since boot as if it were now; here the first tells no percentage.
"""

from collections.abc import Mapping
from typing import ClassVar

from taskvisor.compute.monitors.base import GuestLook, Look, Monitor, Values, known
from taskvisor.model.measured import CpuTimes

NANOSECONDS = 1_000_000_000


class CpuMonitor(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = {
        "cpu.frequency": "MHz",
        "cpu.user.time": "ns",
        "cpu.kernel.time": "ns",
        "cpu.idle.time": "ns",
        "cpu.iowait.time": "ns",
        "cpu.user.percent": "of 1",
        "cpu.kernel.percent": "of 1",
        "cpu.idle.percent": "of 1",
        "cpu.iowait.percent": "of 1",
        "cpu.percent": "of 1",
    }
    guest_metrics: ClassVar[Mapping[str, str]] = {"cpu.time": "ns", "cpu.usage": "of 1"}

    def host_values(self, now: Look, before: Look | None) -> Values:
        """Times and frequency as the hypervisor tells them; parts of the time that went by since the look before."""
        cpu = now.usage.cpu
        frequency = known({"cpu.frequency": now.usage.cpu_mhz})
        if cpu is None:
            return frequency
        times = {
            "cpu.user.time": cpu.user_ns,
            "cpu.kernel.time": cpu.kernel_ns,
            "cpu.idle.time": cpu.idle_ns,
            "cpu.iowait.time": cpu.iowait_ns,
        }
        former = before.usage.cpu if before is not None else None
        return {**frequency, **times, **(_percentages(cpu, former) if former is not None else {})}

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:
        """`cpu.usage`: 1 is all of its CPUs, all the time since the look before."""
        used, vcpus = now.usage.cpu_ns, now.usage.vcpus
        return known({"cpu.time": used, "cpu.usage": _usage(now, before) if used is not None and vcpus else None})


def _percentages(now: CpuTimes, before: CpuTimes) -> Values:
    user, kernel = now.user_ns - before.user_ns, now.kernel_ns - before.kernel_ns
    idle, iowait = now.idle_ns - before.idle_ns, now.iowait_ns - before.iowait_ns
    total = user + kernel + idle + iowait
    if total <= 0 or min(user, kernel, idle, iowait) < 0:
        return {}  # no time went by, or the host was booted in between
    return {
        "cpu.user.percent": user / total,
        "cpu.kernel.percent": kernel / total,
        "cpu.idle.percent": idle / total,
        "cpu.iowait.percent": iowait / total,
        "cpu.percent": (user + kernel + iowait) / total,
    }


def _usage(now: GuestLook, before: GuestLook | None) -> float | None:
    if before is None or before.usage.cpu_ns is None or now.usage.cpu_ns is None or not now.usage.vcpus:
        return None
    used_ns, elapsed_s = now.usage.cpu_ns - before.usage.cpu_ns, now.at_s - before.at_s
    return used_ns / (elapsed_s * NANOSECONDS * now.usage.vcpus) if used_ns >= 0 and elapsed_s > 0 else None
