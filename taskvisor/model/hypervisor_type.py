"""Kinds of hypervisors, in Nova's words, and the other names that they come under.

Knows the words only. Of all these, hosts here run two: `SERVED`.
"""

from enum import StrEnum


class HypervisorType(StrEnum):
    """What may run a guest. Nova's `hv_type`, all 19."""

    BAREMETAL = "baremetal"
    BHYVE = "bhyve"
    DOCKER = "docker"
    FAKE = "fake"
    HYPERV = "hyperv"
    IRONIC = "ironic"
    KQEMU = "kqemu"
    KVM = "kvm"
    LXC = "lxc"
    OPENVZ = "openvz"
    PARALLELS = "parallels"
    PHYP = "phyp"
    QEMU = "qemu"
    TEST = "test"
    UML = "uml"
    VBOX = "vbox"
    VMWARE = "vmware"
    XEN = "xen"
    ZVM = "zvm"


ALIASES = {"xapi": HypervisorType.XEN, "powervm": HypervisorType.PHYP}
SERVED = frozenset({HypervisorType.KVM, HypervisorType.QEMU})
"""Those that hosts here are."""


def parse_hypervisor_type(text: str) -> HypervisorType:
    """The kind of that name, in any case and under any of its names; ValueError for what is none.

    Nova's `hv_type.canonicalize`.
    """
    word = text.strip().lower()
    return ALIASES.get(word) or HypervisorType(word)
