"""What libvirt says that a guest can have, read from what it really said."""

import pytest

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.observed import GuestSupport
from taskvisor.model.states import VirtType
from tests.virt.capabilities import read_capabilities
from virt.guest_support import parse_machines, parse_support

PC, Q35, KVM = (read_capabilities(name) for name in ("qemu-7.2-pc", "qemu-7.2-q35", "kvm-8.2-q35"))
QEMU_HOST, KVM_HOST = read_capabilities("qemu-7.2-host"), read_capabilities("kvm-8.2-host")
BARE = "<domainCapabilities><domain>kvm</domain></domainCapabilities>"


def test_an_alias_stands_for_its_full_name_and_a_full_name_for_itself() -> None:
    machines = parse_machines(QEMU_HOST, "x86_64", VirtType.QEMU)
    assert (machines["q35"], machines["pc"]) == ("pc-q35-7.2", "pc-i440fx-7.2")
    assert machines["pc-q35-6.0"] == "pc-q35-6.0"


def test_kvm_may_have_machines_of_its_own_and_other_kinds_of_guests_do_not_count() -> None:
    full = {"q35": "pc-q35-rhel9.4.0", "pc-q35-rhel9.4.0": "pc-q35-rhel9.4.0"}
    assert parse_machines(KVM_HOST, "x86_64", VirtType.KVM) == full
    assert set(parse_machines(KVM_HOST, "x86_64", VirtType.QEMU)) == {*full, "pc", "pc-i440fx-rhel7.6.0"}
    assert parse_machines(KVM_HOST, "aarch64", VirtType.QEMU) == {}


def test_a_kvm_host_says_all_that_it_can() -> None:
    assert parse_support({"q35": "pc-q35-rhel9.4.0"}, [KVM]) == GuestSupport(
        machines={"q35": "pc-q35-rhel9.4.0"},
        firmwares=frozenset({"bios", "efi"}),
        secure_boot=True,
        cpu_modes=frozenset({"host-passthrough", "maximum", "host-model", "custom"}),
        cpu_models=frozenset({"Nehalem", "Westmere"}),
        disk_buses=frozenset({"scsi", "virtio", "sata"}),
        video_models=frozenset({"vga", "virtio"}),
        tpm_models=frozenset({"tpm-tis", "tpm-crb"}),
        tpm_versions=frozenset({"2.0"}),
        memory_encryption=True,
    )


def test_how_many_encrypted_guests_a_host_runs_is_told_by_libvirt_from_8_0_on() -> None:
    told = read_capabilities("kvm-8.2-q35").replace("<cbitpos>", "<maxGuests>15</maxGuests><cbitpos>")
    assert parse_support({}, [told]).encrypted_guests == 15


def test_an_emulating_host_without_firmware_and_swtpm_says_that_it_has_none() -> None:
    support = parse_support({}, [Q35])
    assert (support.firmwares, support.secure_boot, support.memory_encryption) == (frozenset(), False, False)
    assert (support.tpm_models, support.tpm_versions) == (frozenset(), frozenset())
    assert support.cpu_modes == frozenset({"maximum", "host-model", "custom"})


def test_an_emulated_cpu_need_not_have_all_of_its_models_features() -> None:
    emulated = parse_support({}, [Q35]).cpu_models
    assert emulated is not None
    assert {"Nehalem", "EPYC"} <= emulated
    assert "EPYC" not in (parse_support({}, [Q35.replace("<domain>qemu<", "<domain>kvm<")]).cpu_models or ())


def test_what_one_board_has_the_host_has() -> None:
    assert "ide" not in (parse_support({}, [Q35]).disk_buses or ())
    assert parse_support({}, [Q35, PC]) == parse_support({}, [PC, Q35])
    assert "ide" in (parse_support({}, [Q35, PC]).disk_buses or ())


def test_what_libvirt_does_not_tell_is_not_known() -> None:
    assert parse_support({}, [BARE]) == GuestSupport(machines={})


def test_what_is_not_supported_has_nothing() -> None:
    xml = BARE.replace("<domain>", "<devices><tpm supported='no'/><video supported='no'/></devices><domain>")
    support = parse_support({}, [xml])
    assert (support.tpm_models, support.tpm_versions, support.video_models) == (frozenset(), frozenset(), frozenset())


def test_what_is_no_capabilities_is_unreadable() -> None:
    with pytest.raises(UnreadableRecord, match="domainCapabilities"):
        parse_support({}, ["<capabilities/>"])
    with pytest.raises(UnreadableRecord, match="capabilities"):
        parse_machines("", "x86_64", VirtType.QEMU)
