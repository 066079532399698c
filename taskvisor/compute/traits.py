"""What a host can, in the words of os-traits, so that flavors and images may ask for it by the names that Nova uses.

https://docs.openstack.org/os-traits/latest/ lists the words; features are in libvirt's. What has no word there is left out, but
for the boards that a host has: CUSTOM_MACHINE_Q35.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from taskvisor.model.observed import GuestSupport, HypervisorFacts

_SAME: Final = frozenset({
    "3dnow", "abm", "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512er", "avx512f", "avx512ifma", "avx512pf",
    "avx512vl", "bmi2", "f16c", "fma4", "mmx", "mpx", "pdpe1gb", "sgx", "sse", "sse2", "sse4a", "ssse3", "stibp", "svm", "tbm",
    "vmx", "xop",
})  # fmt: skip
"""Features whose word is their name."""
_OTHER: Final = {
    "aes": "AESNI",
    "avx512-vnni": "AVX512VNNI",
    "avx512-vpopcntdq": "AVX512VPOPCNTDQ",
    "avx512bitalg": "AVX512BITALG",
    "avx512vbmi": "AVX512VBMI",
    "avx512vbmi2": "AVX512VBMI2",
    "avx512vnni": "AVX512VNNI",
    "bmi1": "BMI",
    "fma": "FMA3",
    "gfni": "AVX512GFNI",
    "hle": "TSX",
    "pclmuldq": "CLMUL",
    "pclmulqdq": "CLMUL",
    "pni": "SSE3",
    "rtm": "TSX",
    "sha-ni": "SHA",
    "sse3": "SSE3",
    "sse4.1": "SSE41",
    "sse4.2": "SSE42",
    "vaes": "AVX512VAES",
    "vpclmulqdq": "AVX512VPCLMULQDQ",
}
_WITH_BIOS: Final = frozenset({"x86_64", "i686"})
"""QEMU brings theirs along; libvirt tells only of firmware that is installed beside it."""
_BUSES: Final = frozenset({"fdc", "ide", "sata", "scsi", "usb", "virtio"})
_VIDEO: Final = frozenset({"cirrus", "qxl", "vga", "vmvga"})


def traits_for(facts: HypervisorFacts) -> tuple[str, ...]:
    """The host's traits, each once, sorted. What was not asked of the hypervisor is not among them."""
    found = {*_of_cpu(facts.cpu_features), *_of_support(facts.support), f"HW_ARCH_{_word(facts.arch)}"}
    if facts.arch in _WITH_BIOS:
        found.add("COMPUTE_FIRMWARE_BIOS")
    return tuple(sorted(found))


def _of_cpu(features: Iterable[str]) -> Iterator[str]:
    for feature in features:
        word = feature.upper() if feature in _SAME else _OTHER.get(feature)
        if word is not None:
            yield f"HW_CPU_X86_{word}"


def _of_support(support: GuestSupport) -> Iterator[str]:
    if "efi" in (support.firmwares or ()):
        yield "COMPUTE_FIRMWARE_UEFI"
    if support.secure_boot:
        yield "COMPUTE_SECURITY_UEFI_SECURE_BOOT"
    tpm_models = {"tpm-tis": "TIS", "tpm-crb": "CRB"}
    yield from (f"COMPUTE_SECURITY_TPM_{tpm_models[name]}" for name in support.tpm_models or () if name in tpm_models)
    if support.tpm_models:
        yield from (f"COMPUTE_SECURITY_TPM_{_word(version)}" for version in support.tpm_versions or ())
    yield from (f"COMPUTE_STORAGE_BUS_{_word(bus)}" for bus in support.disk_buses or () if bus in _BUSES)
    yield from (f"COMPUTE_GRAPHICS_MODEL_{_word(name)}" for name in support.video_models or () if name in _VIDEO)
    if support.memory_encryption:
        yield "HW_CPU_X86_AMD_SEV"
    yield from (f"CUSTOM_MACHINE_{_word(name)}" for name in support.machines or () if re.fullmatch("[a-z0-9]+", name))


def _word(text: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", text.upper())
