"""Words with a canonical form and other names: Nova's `canonicalize`."""

from collections.abc import Callable
from enum import StrEnum

import pytest

from taskvisor.model.architecture import Architecture, parse_architecture
from taskvisor.model.build_result import BuildResult
from taskvisor.model.cpu_words import CpuMatch, CpuMode, FeaturePolicy
from taskvisor.model.hypervisor_type import HypervisorType, parse_hypervisor_type
from taskvisor.model.states import InstanceAction, PowerState, TaskState, VmState
from taskvisor.model.vm_mode import VmMode, parse_vm_mode

NOVAS: list[tuple[type[StrEnum], str]] = [
    (
        Architecture,
        "alpha armv6 armv7l armv7b aarch64 cris i686 ia64 lm32 m68k microblaze microblazeel mips mipsel mips64 mips64el"
        " openrisc parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64"
        " xtensa xtensaeb",
    ),
    (
        HypervisorType,
        "baremetal bhyve docker fake hyperv ironic kqemu kvm lxc openvz parallels phyp qemu test uml vbox vmware xen zvm",
    ),
    (VmMode, "hvm xen uml exe"),
    (FeaturePolicy, "force require optional disable forbid"),
    (CpuMatch, "minimum exact strict"),
    (CpuMode, "custom host-model host-passthrough maximum"),
    (BuildResult, "active failed rescheduled failed_by_policy rescheduled_by_policy"),
    (
        VmState,
        "active building paused suspended stopped rescued resized soft-delete deleted error shelved shelved_offloaded",
    ),
    (
        InstanceAction,
        "create delete evacuate restore stop start reboot rebuild revertResize confirmResize resize migrate pause unpause"
        " suspend resume rescue unrescue changePassword shelve unshelve shelveOffload live-migration live_migration_cancel"
        " live_migration_force_complete trigger_crash_dump extend_volume attach_interface detach_interface attach_volume"
        " detach_volume attach_share detach_share swap_volume lock unlock createBackup createImage resetState"
        " refresh_volume_attachment",
    ),
    (
        TaskState,
        "scheduling block_device_mapping networking spawning image_snapshot_pending image_snapshot image_pending_upload"
        " image_uploading image_backup updating_password resize_prep resize_migrating resize_migrated resize_finish"
        " resize_reverting resize_confirming rebooting reboot_pending reboot_started rebooting_hard reboot_pending_hard"
        " reboot_started_hard pausing unpausing suspending resuming powering-off powering-on rescuing unrescuing rebuilding"
        " rebuild_block_device_mapping rebuild_spawning migrating deleting soft-deleting restoring shelving"
        " shelving_image_pending_upload shelving_image_uploading shelving_offloading unshelving",
    ),
]


@pytest.mark.parametrize(("words", "values"), NOVAS)
def test_a_closed_set_has_novas_values_and_no_other(words: type[StrEnum], values: str) -> None:
    assert [word.value for word in words] == values.split()


def test_power_states_have_novas_codes_and_labels() -> None:
    assert {(int(state), state.label) for state in PowerState} == {
        (0, "pending"),
        (1, "running"),
        (3, "paused"),
        (4, "shutdown"),
        (6, "crashed"),
        (7, "suspended"),
    }


@pytest.mark.parametrize(
    ("parse", "text", "word"),
    [
        (parse_architecture, "x86_64", Architecture.X86_64),
        (parse_architecture, " AMD64 ", Architecture.X86_64),
        (parse_architecture, "i386", Architecture.I686),
        (parse_architecture, "i486", Architecture.I686),
        (parse_architecture, "I586", Architecture.I686),
        (parse_architecture, "x86_32", Architecture.I686),
        (parse_architecture, "x86_32p", Architecture.I686),
        (parse_architecture, "Aarch64", Architecture.AARCH64),
        (parse_hypervisor_type, "KVM", HypervisorType.KVM),
        (parse_hypervisor_type, "xapi", HypervisorType.XEN),
        (parse_hypervisor_type, "PowerVM", HypervisorType.PHYP),
        (parse_vm_mode, "HVM", VmMode.HVM),
        (parse_vm_mode, "hv", VmMode.HVM),
        (parse_vm_mode, "baremetal", VmMode.HVM),
        (parse_vm_mode, "pv", VmMode.XEN),
    ],
)
def test_a_word_is_read_in_any_case_and_under_any_of_its_names(
    parse: Callable[[str], StrEnum], text: str, word: StrEnum
) -> None:
    assert parse(text) is word


@pytest.mark.parametrize("parse", [parse_architecture, parse_hypervisor_type, parse_vm_mode])
@pytest.mark.parametrize("text", ["", "x86-64", "none", "None", "hvm,xen"])
def test_what_is_no_word_is_refused(parse: Callable[[str], StrEnum], text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "words"),
    [(parse_architecture, Architecture), (parse_hypervisor_type, HypervisorType), (parse_vm_mode, VmMode)],
)
def test_a_canonical_form_stays_as_it_is(parse: Callable[[str], StrEnum], words: type[StrEnum]) -> None:
    assert [parse(word.value) for word in words] == list(words)
