"""What a host can, in the words of os-traits."""

from dataclasses import replace

from taskvisor.compute.traits import traits_for
from taskvisor.model.observed import GuestSupport
from tests.compute.test_inventory import FACTS


def test_features_and_devices_have_their_words() -> None:
    support = GuestSupport(
        machines={"q35": "pc-q35-8.2", "pc-q35-8.2": "pc-q35-8.2"},
        firmwares=frozenset({"efi"}),
        secure_boot=True,
        disk_buses=frozenset({"virtio", "nvme"}),
        video_models=frozenset({"vga", "ramfb"}),
        tpm_models=frozenset({"tpm-crb", "tpm-tis", "tpm-spapr"}),
        tpm_versions=frozenset({"2.0"}),
        memory_encryption=True,
    )
    facts = replace(
        FACTS, support=support, cpu_features=frozenset({"avx2", "sse4.1", "pni", "hle", "rtm", "no-such-word"})
    )
    assert traits_for(facts) == (
        "COMPUTE_FIRMWARE_BIOS",
        "COMPUTE_FIRMWARE_UEFI",
        "COMPUTE_GRAPHICS_MODEL_VGA",
        "COMPUTE_SECURITY_TPM_2_0",
        "COMPUTE_SECURITY_TPM_CRB",
        "COMPUTE_SECURITY_TPM_TIS",
        "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
        "COMPUTE_STORAGE_BUS_VIRTIO",
        "CUSTOM_MACHINE_Q35",
        "HW_ARCH_X86_64",
        "HW_CPU_X86_AMD_SEV",
        "HW_CPU_X86_AVX2",
        "HW_CPU_X86_SSE3",
        "HW_CPU_X86_SSE41",
        "HW_CPU_X86_TSX",
    )


def test_what_was_not_asked_is_no_trait() -> None:
    assert traits_for(FACTS) == ("COMPUTE_FIRMWARE_BIOS", "HW_ARCH_X86_64")
    assert traits_for(replace(FACTS, arch="aarch64")) == ("HW_ARCH_AARCH64",)
    without_tpm = GuestSupport(tpm_models=frozenset(), tpm_versions=frozenset({"2.0"}), secure_boot=False)
    assert traits_for(replace(FACTS, support=without_tpm)) == traits_for(FACTS)
