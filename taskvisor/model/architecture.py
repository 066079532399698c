"""Processor architectures, in Nova's words, and the other names that they come under.

Knows the words only: which host has which, and who may have it, is not its business.
"""

from enum import StrEnum


class Architecture(StrEnum):
    """What a guest's or a host's CPUs are. Nova's `arch`, all 34."""

    ALPHA = "alpha"
    ARMV6 = "armv6"
    ARMV7L = "armv7l"
    ARMV7B = "armv7b"
    AARCH64 = "aarch64"
    CRIS = "cris"
    I686 = "i686"
    IA64 = "ia64"
    LM32 = "lm32"
    M68K = "m68k"
    MICROBLAZE = "microblaze"
    MICROBLAZEEL = "microblazeel"
    MIPS = "mips"
    MIPSEL = "mipsel"
    MIPS64 = "mips64"
    MIPS64EL = "mips64el"
    OPENRISC = "openrisc"
    PARISC = "parisc"
    PARISC64 = "parisc64"
    PPC = "ppc"
    PPCLE = "ppcle"
    PPC64 = "ppc64"
    PPC64LE = "ppc64le"
    PPCEMB = "ppcemb"
    S390 = "s390"
    S390X = "s390x"
    SH4 = "sh4"
    SH4EB = "sh4eb"
    SPARC = "sparc"
    SPARC64 = "sparc64"
    UNICORE32 = "unicore32"
    X86_64 = "x86_64"
    XTENSA = "xtensa"
    XTENSAEB = "xtensaeb"


ALIASES = {
    "i386": Architecture.I686,
    "i486": Architecture.I686,
    "i586": Architecture.I686,
    "x86_32": Architecture.I686,  # Xen's
    "x86_32p": Architecture.I686,
    "amd64": Architecture.X86_64,  # Debian's
}


def parse_architecture(text: str) -> Architecture:
    """The architecture of that name, in any case and under any of its names; ValueError for what is none.

    Nova's `arch.canonicalize`.
    """
    word = text.strip().lower()
    return ALIASES.get(word) or Architecture(word)
