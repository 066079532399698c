"""When guests run on KVM."""

import os
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.states import VirtType
from virt.kvm import KvmReadings, read_kvm, virt_type_for

USABLE = KvmReadings(arch="x86_64", device_problem=None, cpu_flags=frozenset({"fpu", "svm"}))
NO_DEVICE = KvmReadings(arch="x86_64", device_problem="/dev/kvm cannot be opened", cpu_flags=frozenset({"vmx"}))
NO_HARDWARE = KvmReadings(arch="x86_64", device_problem=None, cpu_flags=frozenset({"fpu", "hypervisor"}))
ARM = KvmReadings(arch="aarch64", device_problem=None, cpu_flags=frozenset())


@pytest.mark.parametrize(
    ("setting", "readings", "virt_type"),
    [
        ("auto", USABLE, VirtType.KVM),
        ("auto", NO_DEVICE, VirtType.QEMU),
        ("auto", NO_HARDWARE, VirtType.QEMU),
        ("auto", ARM, VirtType.KVM),
        ("kvm", USABLE, VirtType.KVM),
        ("qemu", USABLE, VirtType.QEMU),
        ("qemu", NO_DEVICE, VirtType.QEMU),
    ],
)
def test_the_virt_type_follows_setting_and_readings(setting: str, readings: KvmReadings, virt_type: VirtType) -> None:
    assert virt_type_for(setting, readings) is virt_type


@pytest.mark.parametrize(
    ("readings", "reason"), [(NO_DEVICE, "cannot be opened"), (NO_HARDWARE, "neither vmx nor svm")]
)
def test_kvm_is_refused_with_the_reason_where_it_is_not_usable(readings: KvmReadings, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        virt_type_for("kvm", readings)


@pytest.mark.parametrize("setting", ["", "xen", "KVM"])
def test_an_unknown_setting_is_refused(setting: str) -> None:
    with pytest.raises(Refused, match="auto, kvm, qemu"):
        virt_type_for(setting, USABLE)


def test_flags_are_read_from_the_first_cpu(tmp_path: Path) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nflags\t\t: fpu vmx\nvmx flags\t: ept\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert read_kvm(os.devnull, str(cpu_info)).cpu_flags == {"fpu", "vmx"}


def test_a_device_that_opens_is_no_problem(tmp_path: Path) -> None:
    assert read_kvm(os.devnull, str(tmp_path / "none")) == KvmReadings(
        arch=os.uname().machine, device_problem=None, cpu_flags=frozenset()
    )


def test_a_device_that_is_not_there_is_a_problem_in_words(tmp_path: Path) -> None:
    readings = read_kvm(str(tmp_path / "kvm"))
    assert (
        readings.device_problem == f"{tmp_path}/kvm cannot be opened for reading and writing: No such file or directory"
    )


def test_this_host_can_be_read() -> None:
    virt_type_for("auto", read_kvm())
