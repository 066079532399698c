"""Whether guests run on KVM or are emulated: the rule (pure), and the readings it needs."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taskvisor.model.errors import Refused
from taskvisor.model.states import VirtType

DEVICE = "/dev/kvm"
CPU_INFO = "/proc/cpuinfo"
X86 = frozenset({"x86_64", "i686", "amd64"})
HARDWARE_FLAGS = frozenset({"vmx", "svm"})
"""Intel's and AMD's virtualization, as Linux names them in /proc/cpuinfo."""
READ_LIMIT_BYTES = 4 << 20
"""Enough for the flags of the first CPU on any host."""


class VirtTypeSetting(StrEnum):
    """What the operator asked for."""

    AUTO = "auto"
    KVM = "kvm"
    QEMU = "qemu"


@dataclass(frozen=True, kw_only=True)
class KvmReadings:
    """What this host shows of KVM. `device_problem` is None when /dev/kvm opens for reading and writing."""

    arch: str
    device_problem: str | None
    cpu_flags: frozenset[str]


def virt_type_for(setting: str, readings: KvmReadings) -> VirtType:
    """KVM or plain QEMU. `auto` takes KVM where it is usable.

    Refused for an unknown setting, and for `kvm` on a host where KVM is not usable, with the reason.
    """
    asked = _parse_setting(setting)
    problem = problem_of(readings)
    if asked is VirtTypeSetting.QEMU:
        return VirtType.QEMU
    if problem is None:
        return VirtType.KVM
    if asked is VirtTypeSetting.KVM:
        raise Refused(f"cannot run guests on KVM: {problem}; set virt_type to auto or qemu to emulate instead")
    return VirtType.QEMU


def problem_of(readings: KvmReadings) -> str | None:
    """Why KVM is not usable; None when it is.

    The device alone proves nothing on x86: in a virtual machine without nested virtualization /dev/kvm may be there,
    open well, and fail or hang when a guest is made.
    """
    if readings.device_problem is not None:
        return readings.device_problem
    if readings.arch in X86 and not HARDWARE_FLAGS & readings.cpu_flags:
        return f"{DEVICE} opens, but the CPU has neither vmx nor svm ({CPU_INFO})"
    return None


def read_kvm(device: str = DEVICE, cpu_info: str = CPU_INFO) -> KvmReadings:
    """The readings of this host. Opens the device and closes it again; makes no guest."""
    return KvmReadings(
        arch=os.uname().machine,
        device_problem=_device_problem(device),
        cpu_flags=_read_cpu_flags(Path(cpu_info)),
    )


def _parse_setting(setting: str) -> VirtTypeSetting:
    try:
        return VirtTypeSetting(setting)
    except ValueError as error:
        known = ", ".join(VirtTypeSetting)
        raise Refused(f"cannot use virt_type {setting!r}: it is none of {known}") from error


def _device_problem(device: str) -> str | None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device} cannot be opened for reading and writing: {error.strerror}"
    return None


def _read_cpu_flags(cpu_info: Path) -> frozenset[str]:
    try:
        with cpu_info.open(encoding="utf-8", errors="replace") as lines:
            text = lines.read(READ_LIMIT_BYTES)
    except OSError:
        return frozenset()
    found = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())
