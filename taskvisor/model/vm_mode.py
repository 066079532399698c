"""How a guest meets its hypervisor, in Nova's words, and the other names that the modes come under.

Knows the words only. Guests here are all fully virtualised: `SERVED`.
"""

from enum import StrEnum


class VmMode(StrEnum):
    """Which interface a guest's kernel is made for."""

    HVM = "hvm"  # a machine's
    XEN = "xen"  # Xen's own, paravirtual
    UML = "uml"  # User Mode Linux
    EXE = "exe"  # a container's: a program, no kernel


ALIASES = {"pv": VmMode.XEN, "hv": VmMode.HVM, "baremetal": VmMode.HVM}
SERVED = frozenset({VmMode.HVM})
"""Those that hosts here offer."""


def parse_vm_mode(text: str) -> VmMode:
    """The mode of that name, in any case and under any of its names; ValueError for what is none.

    Nova's `vm_mode.canonicalize`.
    """
    word = text.strip().lower()
    return ALIASES.get(word) or VmMode(word)
