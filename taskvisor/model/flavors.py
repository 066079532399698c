"""Sizes of guests by name: the default ones, and those that spell themselves out."""

import re

from taskvisor.model.errors import Refused
from taskvisor.model.records import Flavor
from taskvisor.model.spec import FlavorSpec, parse_spec

FLAVOR_NAME = re.compile(r"c(\d{1,3})-m(\d{1,8})-d(\d{1,6})(?:-s(\d{1,7}))?(?:-e(\d{1,6}))?")

DEFAULT_FLAVORS = {
    flavor.name: flavor
    for flavor in (
        Flavor(name="m1.tiny", vcpus=1, memory_mib=512, disk_gib=1),
        Flavor(name="m1.small", vcpus=1, memory_mib=2048, disk_gib=20),
        Flavor(name="m1.medium", vcpus=2, memory_mib=4096, disk_gib=40),
        Flavor(name="m1.large", vcpus=4, memory_mib=8192, disk_gib=80),
        Flavor(name="m1.xlarge", vcpus=8, memory_mib=16384, disk_gib=160),
    )
}


def flavor_for(asked: str | FlavorSpec) -> Flavor:
    """The flavor of that name (a default one, or spelled out as c1-m128-d1). Refused when there is none.

    A name may go on with swap (MiB) and ephemeral disk (GiB): c1-m128-d1-s512-e2.
    """
    if isinstance(asked, FlavorSpec):
        return _flavor_of(asked)
    if asked in DEFAULT_FLAVORS:
        return DEFAULT_FLAVORS[asked]
    match = FLAVOR_NAME.fullmatch(asked)
    if match is None:
        known = ", ".join(DEFAULT_FLAVORS)
        raise Refused(f"flavor: {asked!r}: there is no such flavor; use one of {known}, or a size like c1-m512-d1")
    sizes = ("vcpus", "memory_mib", "disk_gib", "swap_mib", "ephemeral_gib")
    return _flavor_of(parse_spec(FlavorSpec, dict(zip(sizes, map(int, match.groups(default="0")), strict=True))))


def _flavor_of(spec: FlavorSpec) -> Flavor:
    swap = f"-s{spec.swap_mib}" if spec.swap_mib else ""
    ephemeral = f"-e{spec.ephemeral_gib}" if spec.ephemeral_gib else ""
    return Flavor(
        name=f"c{spec.vcpus}-m{spec.memory_mib}-d{spec.disk_gib}{swap}{ephemeral}",
        vcpus=spec.vcpus,
        memory_mib=spec.memory_mib,
        disk_gib=spec.disk_gib,
        swap_mib=spec.swap_mib,
        ephemeral_gib=spec.ephemeral_gib,
        extra_specs=spec.extra_specs,
    )
