"""How a guest's CPU is described: Nova's `cpumodel`, whose words are libvirt's.

Knows the words only. Names of models (Nehalem, EPYC, …) are the hypervisor's own, and no closed set.

https://libvirt.org/formatdomain.html#cpu-model-and-topology
"""

from enum import StrEnum


class CpuMode(StrEnum):
    CUSTOM = "custom"  # the model that is named
    HOST_MODEL = "host-model"  # the named model nearest to the host's, with the flags that it lacks; can move
    HOST_PASSTHROUGH = "host-passthrough"  # the host's own, which only the same CPU can take over
    MAXIMUM = "maximum"  # all that the hypervisor can do; libvirt's, and not Nova's


class CpuMatch(StrEnum):
    """How near the guest's CPU must be to the one described."""

    MINIMUM = "minimum"
    EXACT = "exact"
    STRICT = "strict"


class FeaturePolicy(StrEnum):
    """What becomes of one flag of a CPU."""

    FORCE = "force"  # shown whether the host has it or not
    REQUIRE = "require"  # no start without it
    OPTIONAL = "optional"  # as the host has it
    DISABLE = "disable"
    FORBID = "forbid"  # no start where the host has it
