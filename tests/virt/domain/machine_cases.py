"""Every option of the machine that is no device: firmware, features, clock, security."""

from collections.abc import Mapping
from dataclasses import replace

from tests.virt.domain.bases import PC, Q35
from virt.domain.boot import (
    BootDevice,
    Firmware,
    LoaderConfig,
    LoaderType,
    NvramConfig,
    OsConfig,
    SmbiosMode,
    SysinfoConfig,
)
from virt.domain.clock import ClockBasis, ClockConfig, ClockOffset, TickPolicy, TimerConfig, TimerName, TimerTrack
from virt.domain.domain import CrashAction, DomainConfig, LifecycleAction
from virt.domain.features import FeaturesConfig, HypervConfig, HypervMode, IoApic, KvmConfig
from virt.domain.security import LabelType, SecurityLabelConfig, SevConfig

DIRECTORY = "/var/lib/taskvisor/instances/8d812f63-573c-4f2c-a991-dfa68b844d20"


def machine_cases() -> Mapping[str, DomainConfig]:
    """Each by the name of its golden file."""
    return {
        **_boot_cases(),
        **_feature_cases(),
        **_clock_cases(),
        **_security_cases(),
    }


def _boot_cases() -> dict[str, DomainConfig]:
    q35, pc = Q35.os, PC.os
    code, template = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
    flash = LoaderConfig(path=code, readonly=True, secure=False, stateless=False, type=LoaderType.PFLASH)
    rom = LoaderConfig(path="/usr/share/seabios/bios.bin", readonly=False, type=LoaderType.ROM)
    every_device = (BootDevice.NETWORK, BootDevice.CDROM, BootDevice.HD, BootDevice.FLOPPY)
    return {
        "uefi_secure": replace(
            Q35,
            os=replace(
                q35,
                firmware=Firmware.EFI,
                enrolled_keys=True,
                secure_boot=True,
                loader=LoaderConfig(secure=True),
                nvram=NvramConfig(path=f"{DIRECTORY}/nvram"),
            ),
            features=FeaturesConfig(acpi=True, smm=True),
        ),
        "uefi_insecure": replace(
            Q35,
            os=replace(q35, firmware=Firmware.EFI, enrolled_keys=False, secure_boot=False),
            on_crash=CrashAction.RESTART,
        ),
        "uefi_by_path": replace(
            Q35, os=replace(q35, loader=flash, nvram=NvramConfig(path=f"{DIRECTORY}/nvram", template=template))
        ),
        "uefi_stateless": replace(Q35, os=replace(q35, loader=replace(flash, secure=None, stateless=True))),
        "bios_by_path": replace(PC, os=replace(pc, loader=rom)),
        "bios_chosen": replace(PC, os=replace(pc, firmware=Firmware.BIOS)),
        "boot_from_kernel": replace(
            PC,
            os=replace(
                pc,
                kernel=f"{DIRECTORY}/kernel",
                initrd=f"{DIRECTORY}/ramdisk",
                cmdline="root=/dev/vda console=tty0 console=ttyS0 ro",
                smbios_mode=SmbiosMode.EMULATE,
            ),
        ),
        "boot_menu": replace(PC, os=replace(pc, boot_devices=every_device, boot_menu=True, boot_menu_timeout_ms=3000)),
        "boot_from_network": replace(
            PC,
            os=OsConfig(
                arch="x86_64",
                machine="pc-i440fx-6.2",
                boot_devices=(BootDevice.NETWORK,),
                boot_menu=False,
                smbios_mode=SmbiosMode.HOST,
            ),
        ),
        "old_board": replace(
            PC, os=OsConfig(arch="i686", machine="pc-i440fx-2.12"), features=FeaturesConfig(), emulator=None
        ),
        "smbios_tables": replace(
            PC,
            sysinfo=SysinfoConfig(
                manufacturer="Fedora Project",
                product="OpenStack Nova",
                version="13.1.0-1.el7",
                serial="acb2b380-0bb5-7101-f93d-107563ca227e",
                uuid=PC.uuid,
                family="Server",
                bios_vendor="Taskvisor",
                bios_version="1.0",
            ),
            os=replace(pc, smbios_mode=SmbiosMode.SYSINFO),
        ),
    }


def _feature_cases() -> dict[str, DomainConfig]:
    return {
        "windows": replace(
            PC,
            features=FeaturesConfig(acpi=True, apic=True, pae=True, hyperv=_enlightenments(True)),
            clock=ClockConfig(
                offset=ClockOffset.LOCALTIME, timers=(TimerConfig(name=TimerName.HYPERVCLOCK, present=True),)
            ),
        ),
        "windows_plain": replace(PC, features=FeaturesConfig(hyperv=_enlightenments(False))),
        "hpet": replace(
            PC,
            clock=ClockConfig(offset=ClockOffset.LOCALTIME, timers=(TimerConfig(name=TimerName.HPET, present=False),)),
        ),
        "hyperv_as_the_host": replace(
            PC, features=FeaturesConfig(acpi=True, hyperv=HypervConfig(mode=HypervMode.PASSTHROUGH))
        ),
        "hidden_kvm": replace(
            PC, features=FeaturesConfig(acpi=True, kvm=KvmConfig(hidden=True, hint_dedicated=True, poll_control=True))
        ),
        "seen_kvm": replace(
            PC,
            features=FeaturesConfig(acpi=True, kvm=KvmConfig(hidden=False, hint_dedicated=False, poll_control=False)),
        ),
        "features_on": replace(
            Q35,
            features=FeaturesConfig(
                acpi=True,
                apic=True,
                apic_eoi=True,
                pmu=True,
                vmport=True,
                smm=True,
                smm_tseg_mib=48,
                ioapic=IoApic.QEMU,
                vmcoreinfo=True,
            ),
        ),
        "features_off": replace(
            Q35,
            features=FeaturesConfig(
                acpi=True,
                apic=True,
                apic_eoi=False,
                pmu=False,
                vmport=False,
                smm=False,
                ioapic=IoApic.KVM,
                vmcoreinfo=False,
            ),
        ),
    }


def _enlightenments(state: bool) -> HypervConfig:
    return HypervConfig(
        mode=HypervMode.CUSTOM,
        relaxed=state,
        vapic=state,
        spinlocks=state,
        spinlock_retries=8191 if state else None,
        vpindex=state,
        runtime=state,
        synic=state,
        stimer=state,
        stimer_direct=state,
        reset=state,
        vendor_id="1234567890ab" if state else None,
        frequencies=state,
        reenlightenment=state,
        tlbflush=state,
        ipi=state,
        evmcs=state,
    )


def _clock_cases() -> dict[str, DomainConfig]:
    timers = (
        TimerConfig(name=TimerName.RTC, tick_policy=TickPolicy.CATCHUP, track=TimerTrack.GUEST),
        TimerConfig(name=TimerName.PIT, tick_policy=TickPolicy.DISCARD),
        TimerConfig(name=TimerName.KVMCLOCK, present=True),
        TimerConfig(name=TimerName.TSC, frequency_hz=2_400_000_000),
    )
    variable = ClockConfig(offset=ClockOffset.VARIABLE, basis=ClockBasis.UTC, adjustment_s=3600, timers=timers)
    return {
        "clock_variable": replace(
            PC, clock=variable, on_poweroff=LifecycleAction.RESTART, on_crash=CrashAction.COREDUMP_DESTROY
        ),
        "clock_local": replace(
            PC,
            clock=ClockConfig(offset=ClockOffset.VARIABLE, basis=ClockBasis.LOCALTIME, adjustment_s=-60),
            on_crash=CrashAction.COREDUMP_RESTART,
        ),
        "clock_of_the_wall": replace(PC, clock=_rtc(TickPolicy.CATCHUP, TimerTrack.WALL)),
        "clock_real": replace(PC, clock=_rtc(TickPolicy.DELAY, TimerTrack.REALTIME)),
        "ended_when_rebooted": replace(PC, on_reboot=LifecycleAction.DESTROY, on_crash=CrashAction.PRESERVE),
    }


def _rtc(policy: TickPolicy, track: TimerTrack) -> ClockConfig:
    return ClockConfig(
        offset=ClockOffset.UTC, timers=(TimerConfig(name=TimerName.RTC, tick_policy=policy, track=track),)
    )


def _security_cases() -> dict[str, DomainConfig]:
    return {
        "labels": replace(
            PC,
            security_labels=(
                SecurityLabelConfig(
                    type=LabelType.STATIC,
                    model="selinux",
                    relabel=False,
                    label="system_u:system_r:svirt_t:s0:c392,c662",
                ),
                SecurityLabelConfig(type=LabelType.DYNAMIC, model="dac", relabel=True, base_label="+107:+107"),
            ),
        ),
        "no_label": replace(PC, security_labels=(SecurityLabelConfig(type=LabelType.NONE),)),
        "sev": replace(
            Q35,
            launch_security=SevConfig(
                policy=0x0003,
                c_bit_position=51,
                reduced_phys_bits=1,
                kernel_hashes=True,
                dh_certificate="AAAACAAAAA8BAAAAAA",
                session="AAACACAAAABA",
            ),
        ),
        "sev_es": replace(Q35, launch_security=SevConfig(policy=0x0037, kernel_hashes=False)),
    }
