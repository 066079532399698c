"""What a flavor and an image ask for, under Nova's names and by Nova's rules."""

import contextlib
import dataclasses
import re
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvisor.model.architecture import Architecture
from taskvisor.model.cpu_words import CpuMode
from taskvisor.model.errors import Refused
from taskvisor.model.hypervisor_type import HypervisorType
from taskvisor.model.numa import CpuThreadPolicy, PageSize
from taskvisor.model.plan import DiskBus
from taskvisor.model.vm_mode import VmMode
from virt.domain.board_devices import TpmModel, TpmVersion
from virt.domain.boot import Firmware
from virt.domain.display import VideoModel
from virt.options import GuestOptions, guest_options_for, require_image_properties
from virt.options.boot import BootOptions, OsType, SecureBoot
from virt.options.cpu import CpuOptions, CpuPolicy, EmulatorThreads
from virt.options.device import DeviceOptions, WatchdogChoice
from virt.options.disk import DiskOptions
from virt.options.kinds import CpuFlag, CpuMask, PciRequest
from virt.options.memory import Encryption, MemoryOptions
from virt.options.nic import NicOptions
from virt.options.option import Option
from virt.options.platform import PlatformOptions
from virt.options.table import NOT_OFFERED, THEMES

Texts = dict[str, str]
ALL_OPTIONS = [option for options in THEMES.values() for option in options]
PINNED = {"hw:cpu_policy": "dedicated"}


def test_nothing_asked_is_all_left_to_the_host() -> None:
    assert guest_options_for({}, {}) == GuestOptions()


@pytest.mark.parametrize(
    ("specs", "properties", "options"),
    [
        (
            {
                "hw:cpu_policy": "mixed",
                "hw:cpu_dedicated_mask": "^0",
                "hw:cpu_thread_policy": "isolate",
                "hw:emulator_threads_policy": "share",
                "hw:cpu_realtime": "yes",
                "hw:cpu_realtime_mask": "1-2",
            },
            {},
            GuestOptions(
                cpu=CpuOptions(
                    policy=CpuPolicy.MIXED,
                    dedicated=CpuMask(included=None, excluded=frozenset({0})),
                    thread_policy=CpuThreadPolicy.ISOLATE,
                    emulator_threads=EmulatorThreads.SHARE,
                    realtime=True,
                    realtime_mask=CpuMask(included=frozenset({1, 2})),
                )
            ),
        ),
        (
            {
                "hw:cpu_mode": "custom",
                "hw:cpu_model": "EPYC",
                "hw:cpu_flags": "+pcid,-vmx",
                "hide_hypervisor_id": "true",
            },
            {},
            GuestOptions(
                cpu=CpuOptions(
                    mode=CpuMode.CUSTOM,
                    model="EPYC",
                    flags=(CpuFlag(name="pcid", wanted=True), CpuFlag(name="vmx", wanted=False)),
                    hidden=True,
                )
            ),
        ),
        (
            {"quota:cpu_shares": "1024", "quota:cpu_period": "10000", "quota:cpu_quota": "-1", "hw:pmu": "no"},
            {},
            GuestOptions(cpu=CpuOptions(shares=1024, period_us=10000, quota_us=-1, pmu=False)),
        ),
        (
            {
                "hw:numa_nodes": "2",
                "hw:numa_cpus.0": "0,3",
                "hw:numa_cpus.1": "1-2",
                "hw:numa_mem.0": "512",
                "hw:numa_mem.1": "256",
                "hw:mem_page_size": "2MB",
                "hw:locked_memory": "True",
                "hw:mem_access": "shared",
            },
            {"hw_mem_encryption": "true"},
            GuestOptions(
                memory=MemoryOptions(
                    numa_nodes=2,
                    numa_cpus={0: frozenset({0, 3}), 1: frozenset({1, 2})},
                    numa_mem_mib={0: 512, 1: 256},
                    page_size=2048,
                    locked=True,
                    access="shared",  # type: ignore[arg-type]
                    encryption=Encryption.SEV,
                )
            ),
        ),
        (
            {"os:secure_boot": "required", "hw:boot_menu": "1"},
            {
                "hw_firmware_type": "uefi",
                "hw_machine_type": "q35",
                "os_type": "windows",
                "hw_tpm_version": "2.0",
                "hw_tpm_model": "tpm-crb",
                "kernel_id": "/srv/kernels/vmlinuz",
                "ramdisk_id": "/srv/kernels/initrd",
                "os_command_line": "root=/dev/vda ro",
                "os_distro": "debian",
            },
            GuestOptions(
                boot=BootOptions(
                    machine="q35",
                    firmware=Firmware.EFI,
                    secure_boot=SecureBoot.REQUIRED,
                    boot_menu=True,
                    os_type=OsType.WINDOWS,
                    tpm_model=TpmModel.CRB,
                    tpm_version=TpmVersion.V2_0,
                    kernel="/srv/kernels/vmlinuz",
                    ramdisk="/srv/kernels/initrd",
                    command_line="root=/dev/vda ro",
                )
            ),
        ),
        (
            {"quota:disk_read_bytes_sec": "1048576", "quota:disk_write_iops_sec": "100"},
            {"hw_disk_bus": "scsi", "hw_cdrom_bus": "SATA"},
            GuestOptions(
                disk=DiskOptions(bus=DiskBus.SCSI, cdrom_bus="sata", read_bytes_s=1048576, write_iops=100)  # type: ignore[arg-type]
            ),
        ),
        (
            {"quota:vif_inbound_average": "1000", "quota:vif_inbound_burst": "9", "hw:vif_multiqueue_enabled": "on"},
            {},
            GuestOptions(nic=NicOptions(inbound_average=1000, inbound_burst=9, multiqueue=True)),
        ),
        (
            {"hw_video:ram_max_mb": "64", "hw_rng:rate_bytes": "512", "pci_passthrough:alias": "gpu:1, nic:2"},
            {
                "hw_video_model": "virtio",
                "hw_video_ram": "32",
                "hw_watchdog_action": "reset",
                "hw_serial_port_count": "2",
            },
            GuestOptions(
                device=DeviceOptions(
                    video_model=VideoModel.VIRTIO,
                    video_ram_mib=32,
                    watchdog=WatchdogChoice.RESET,
                    serial_ports=2,
                    rng_bytes=512,
                    pci=(PciRequest(alias="gpu", count=1), PciRequest(alias="nic", count=2)),
                )
            ),
        ),
    ],
)
def test_what_is_asked_is_read(specs: Texts, properties: Texts, options: GuestOptions) -> None:
    assert guest_options_for(specs, properties) == options


@pytest.mark.parametrize(
    ("specs", "properties", "field", "value"),
    [
        ({"hw:watchdog_action": "reset"}, {"hw_watchdog_action": "pause"}, "device.watchdog", WatchdogChoice.PAUSE),
        ({"hw:boot_menu": "yes"}, {"hw_boot_menu": "no"}, "boot.boot_menu", False),
        ({"hw:cpu_policy": "dedicated"}, {"hw_cpu_policy": "shared"}, "cpu.policy", CpuPolicy.DEDICATED),
        ({}, {"hw_cpu_policy": "dedicated"}, "cpu.policy", CpuPolicy.DEDICATED),
        (
            PINNED | {"hw:cpu_thread_policy": "prefer"},
            {"hw_cpu_thread_policy": "require"},
            "cpu.thread_policy",
            CpuThreadPolicy.REQUIRE,
        ),
        ({"hw:mem_page_size": "large"}, {"hw_mem_page_size": "1GB"}, "memory.page_size", 1048576),
        ({"hw:mem_page_size": "any"}, {}, "memory.page_size", PageSize.ANY),
        ({"hw:serial_port_count": "3"}, {"hw_serial_port_count": "2"}, "device.serial_ports", 2),
        ({"hw:cpu_max_cores": "8"}, {"hw_cpu_max_cores": "4"}, "cpu.max_cores", 4),
        ({"hw:cpu_sockets": "4", "hw:cpu_threads": "2"}, {"hw_cpu_cores": "2"}, "cpu.sockets", None),
        ({"hw:pmu": "yes"}, {"hw_pmu": "true"}, "cpu.pmu", True),
    ],
)
def test_of_two_values_the_one_that_nova_takes_counts(
    specs: Texts, properties: Texts, field: str, value: object
) -> None:
    theme, name = field.split(".")
    assert getattr(getattr(guest_options_for(specs, properties), theme), name) == value


@pytest.mark.parametrize(
    ("specs", "properties"),
    [
        ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}),
        ({"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "isolate"}, {"hw_cpu_thread_policy": "require"}),
        ({"hw:numa_nodes": "1"}, {"hw_numa_nodes": "1"}),
        ({"hw:mem_page_size": "2048"}, {"hw_mem_page_size": "large"}),
        ({"hw:serial_port_count": "1"}, {"hw_serial_port_count": "2"}),
        ({"hw_video:ram_max_mb": "16"}, {"hw_video_ram": "32"}),
        ({"hw:vif_multiqueue_enabled": "yes"}, {"hw_vif_multiqueue_enabled": "no"}),
        ({"hw:pmu": "yes"}, {"hw_pmu": "no"}),
        ({"hw:mem_encryption": "yes"}, {"hw_mem_encryption": "no"}),
        ({"os:secure_boot": "optional"}, {"os_secure_boot": "disabled"}),
        ({"hw:hide_hypervisor_id": "yes"}, {"img_hide_hypervisor_id": "no"}),
        ({"hw:tpm_version": "2.0"}, {"hw_tpm_version": "1.2"}),
        ({"hw:cpu_max_threads": "1"}, {"hw_cpu_max_threads": "2"}),
    ],
)
def test_two_values_that_cant_both_be_met_are_refused_with_both_names_and_values(
    specs: Texts, properties: Texts
) -> None:
    with pytest.raises(Refused) as refused:
        guest_options_for(specs, properties)
    last_spec, last_property = list(specs.items())[-1], list(properties.items())[-1]
    for key, text in (last_spec, last_property):
        assert f"{key}={text!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("specs", "properties", "nearest"),
    [
        ({"hw:cpu_polcy": "dedicated"}, {}, "hw:cpu_policy"),
        ({"hw:numa_mem": "7"}, {}, "hw:numa_mem.N"),
        ({"hw:numa_mem.00": "7"}, {}, "hw:numa_mem.N"),
        ({"quota:disk_read_byte_sec": "7"}, {}, "quota:disk_read_bytes_sec"),
        ({"os:secureboot": "required"}, {}, "os:secure_boot"),
        ({"hw_rng:alowed": "yes"}, {}, "hw_rng:allowed"),
        ({}, {"hw_disk_buss": "virtio"}, "hw_disk_bus"),
        ({}, {"hw:cpu_policy": "dedicated"}, "hw_cpu_policy"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(specs: Texts, properties: Texts, nearest: str) -> None:
    with pytest.raises(Refused, match=f"nearest one is {nearest}"):
        guest_options_for(specs, properties)


def test_keys_of_others_change_nothing() -> None:
    specs = {"aggregate_instance_extra_specs:ssd": "true", "capabilities:arch": "x86_64", "owner": "me"}
    assert guest_options_for(specs, {"os_version": "12", "img_signature": "x"}) == GuestOptions()


@pytest.mark.parametrize("key", sorted(NOT_OFFERED))
def test_what_is_not_offered_is_refused_with_the_reason(key: str) -> None:
    for specs, properties in (({key: "x"}, {}), ({}, {key: "x"})):
        with pytest.raises(Refused, match=r"hosts|guests|disks|PCI|architecture"):
            guest_options_for(specs, properties)


def test_traits_are_for_placement_to_read() -> None:
    assert guest_options_for({"trait:HW_CPU_X86_AVX2": "required"}, {}) == guest_options_for({}, {})
    with pytest.raises(Refused, match="a trait is asked for as trait:NAME=required"):
        guest_options_for({"trait_HW_CPU_X86_AVX2": "required"}, {})


@pytest.mark.parametrize(
    ("specs", "properties", "reason"),
    [
        ({"hw:cpu_thread_policy": "isolate"}, {}, "hw:cpu_thread_policy: needs hw:cpu_policy"),
        ({"hw:cpu_realtime": "yes"}, {}, "hw:cpu_realtime: needs hw:cpu_policy"),
        (PINNED | {"hw:cpu_realtime": "yes"}, {}, "needs hw:cpu_realtime_mask"),
        ({"hw:cpu_policy": "mixed"}, {}, "needs hw:cpu_dedicated_mask"),
        (PINNED | {"hw:cpu_dedicated_mask": "1"}, {}, "needs hw:cpu_policy=mixed"),
        ({"hw:emulator_threads_policy": "share"}, {}, "needs hw:cpu_policy"),
        ({"hw:cpu_mode": "custom"}, {}, "needs hw:cpu_model"),
        ({"hw:cpu_mode": "maximum", "hw:cpu_model": "EPYC"}, {}, "takes no model"),
        ({"hw:maxphysaddr_bits": "42"}, {}, "needs hw:maxphysaddr_mode"),
        ({"hw:maxphysaddr_mode": "emulate"}, {}, "needs hw:maxphysaddr_bits"),
        ({"hw:locked_memory": "yes"}, {}, "needs hw:mem_page_size"),
        ({"hw:numa_nodes": "2", "hw:numa_mem.0": "512"}, {}, "for each node"),
        ({"hw:numa_cpus.0": "0"}, {}, "not set"),
        ({}, {"hw_mem_page_size": "large"}, "hw:mem_page_size=any or large"),
        ({}, {"hw_video_ram": "8"}, "set hw_video:ram_max_mb"),
        ({}, {"os_secure_boot": "required"}, "needs hw_firmware_type"),
        ({"hw:tpm_model": "tpm-tis"}, {}, "needs hw:tpm_version"),
        ({"hw:tpm_model": "tpm-crb", "hw:tpm_version": "1.2"}, {}, "2.0 only"),
        ({}, {"ramdisk_id": "/srv/initrd"}, "needs kernel_id"),
        (
            {"quota:disk_total_iops_sec": "9", "quota:disk_read_iops_sec": "9"},
            {},
            "not beside quota:disk_read_iops_sec",
        ),
        ({"quota:vif_outbound_peak": "9"}, {}, "needs quota:vif_outbound_average"),
        ({}, {"os_require_quiesce": "yes", "hw_qemu_guest_agent": "no"}, "needs the agent"),
        ({"hw_rng:allowed": "no"}, {"hw_rng_model": "virtio"}, "hw_rng:allowed=no"),
        ({"hw_rng:rate_period": "9"}, {}, "needs hw_rng:rate_bytes"),
        ({}, {"hw_pointer_model": "usbtablet", "hw_input_bus": "ps2"}, "no tablet"),
        ({"hide_hypervisor_id": "yes", "hw:hide_hypervisor_id": "no"}, {}, "the same option"),
        ({f"key{number}": "" for number in range(300)}, {}, "at most 256"),
    ],
)
def test_options_that_contradict_each_other_are_refused(specs: Texts, properties: Texts, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        guest_options_for(specs, properties)


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"hw_architecture": "AMD64"}, PlatformOptions(architecture=Architecture.X86_64)),
        ({"architecture": "i586"}, PlatformOptions(architecture=Architecture.I686)),
        ({"architecture": "amd64", "hw_architecture": "x86_64"}, PlatformOptions(architecture=Architecture.X86_64)),
        ({"img_hv_type": "KVM"}, PlatformOptions(hypervisor_type=HypervisorType.KVM)),
        ({"hypervisor_type": "qemu"}, PlatformOptions(hypervisor_type=HypervisorType.QEMU)),
        ({"hw_vm_mode": "hv", "vm_mode": "hvm"}, PlatformOptions(vm_mode=VmMode.HVM)),
    ],
)
def test_the_words_of_a_platform_are_read_under_all_their_names(properties: Texts, wanted: PlatformOptions) -> None:
    require_image_properties(properties)
    assert guest_options_for({}, properties).platform == wanted


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"hw_architecture": "x86-64"}, "hw_architecture='x86-64': must be an architecture in Nova's words"),
        ({"architecture": "amd64", "hw_architecture": "aarch64"}, "the image says hw_architecture='aarch64' and"),
        ({"img_hv_type": "quemu"}, "img_hv_type='quemu': must be one of baremetal, bhyve"),
        ({"img_hv_type": "xapi"}, "img_hv_type=xen: hosts here are kvm or qemu; choose another image"),
        ({"hypervisor_type": "vmware"}, "img_hv_type=vmware: hosts here are kvm or qemu"),
        ({"hw_vm_mode": "pv"}, "hw_vm_mode=xen: guests here are hvm; choose another image"),
        ({"vm_mode": "fast"}, "vm_mode='fast': must be one of hvm, xen, uml, exe"),
    ],
)
def test_a_platform_that_is_none_or_not_had_here_is_refused_with_the_image(properties: Texts, reason: str) -> None:
    with pytest.raises(Refused, match=re.escape(reason)):
        require_image_properties(properties)
    with pytest.raises(Refused, match=re.escape(reason)):
        guest_options_for({}, properties)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("hw:numa_nodes", "0"),
        ("hw:numa_nodes", "two"),
        ("hw:cpu_policy", "pinned"),
        ("hw:cpu_realtime", "maybe"),
        ("hw:cpu_realtime_mask", "3-1"),
        ("hw:cpu_realtime_mask", "^0-1"),
        ("hw:numa_cpus.0", "^0"),
        ("hw:mem_page_size", "3MB"),
        ("hw:mem_page_size", "2XB"),
        ("hw:cpu_flags", "pcid;vmx"),
        ("pci_passthrough:alias", "gpu"),
        ("hw:machine_type", "pc; rm"),
        ("quota:cpu_shares", "1e3"),
    ],
)
def test_a_text_that_the_option_does_not_take_is_refused_with_what_it_takes(key: str, text: str) -> None:
    with pytest.raises(Refused, match="must be") as refused:
        guest_options_for({key: text}, {})
    assert f"{key}={text!r}" in str(refused.value)


@pytest.mark.parametrize("path", ["vmlinuz", "/srv/../etc/shadow", "/", "/srv//x", "/a\nb", ""])
def test_a_kernel_is_an_absolute_path(path: str) -> None:
    with pytest.raises(Refused, match="kernel_id"):
        guest_options_for({}, {"kernel_id": path})


@given(
    st.dictionaries(st.sampled_from([key for option in ALL_OPTIONS for key in option.keys]), st.text(max_size=12)),
    st.dictionaries(st.sampled_from([key for option in ALL_OPTIONS for key in option.keys]), st.text(max_size=12)),
)
def test_whatever_the_text_it_is_read_or_refused(specs: Texts, properties: Texts) -> None:
    with contextlib.suppress(Refused):
        assert isinstance(guest_options_for(specs, properties), GuestOptions)


@pytest.mark.parametrize(
    ("theme", "option"), [(theme, option) for theme, options in THEMES.items() for option in options]
)
def test_each_option_fills_a_field_of_its_theme_and_can_be_asked_for(theme: str, option: Option) -> None:
    hints = get_type_hints(get_type_hints(GuestOptions)[theme])
    assert option.field in hints
    assert option.keys
    assert option.effect.endswith(".")


@pytest.mark.parametrize("option", ALL_OPTIONS, ids=lambda option: option.field)
def test_of_nothing_a_rule_makes_nothing(option: Option) -> None:
    """So an option of which nobody says anything need not be asked about."""
    assert option.rule.choose(None, None) is None


def test_each_field_is_filled_by_one_option() -> None:
    for theme, options in THEMES.items():
        fields = [field.name for field in dataclasses.fields(get_type_hints(GuestOptions)[theme])]
        assert sorted(option.field for option in options) == sorted(fields)


def test_no_key_is_two_options() -> None:
    keys = [key for option in ALL_OPTIONS for key in option.keys]
    assert len(keys) == len(set(keys))
    assert not set(keys) & set(NOT_OFFERED)


def test_what_was_read_is_of_the_types_that_the_options_declare() -> None:
    options = guest_options_for(
        {"hw:cpu_policy": "dedicated", "hw:mem_page_size": "1GB", "hw:cpu_flags": "pcid", "quota:cpu_shares": "9"},
        {"hw_disk_bus": "sata", "hw_machine_type": "q35", "hw_vif_model": "e1000", "hw_input_bus": "usb"},
    )
    assert msgspec.convert(msgspec.to_builtins(options), GuestOptions) == options
