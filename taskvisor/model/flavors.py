"""Sizes of guests: those that there are unless somebody deletes them, and those that spell themselves out.

Which others there are by name, and who may have them, the records say (`taskvisor/state/flavors.py`).
"""

import re
from collections.abc import Mapping

from taskvisor.model.errors import Refused
from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.ids import default_flavor_id_for
from taskvisor.model.records import Flavor
from taskvisor.model.spec import FlavorSpec, parse_spec

FLAVOR_NAME = re.compile(r"c(\d{1,3})-m(\d{1,8})-d(\d{1,6})(?:-s(\d{1,7}))?(?:-e(\d{1,6}))?")


DEFAULT_FLAVORS: Mapping[str, FlavorRecord] = {
    flavor.name: FlavorRecord(id=default_flavor_id_for(flavor.name), flavor=flavor)
    for flavor in (
        Flavor(name="m1.tiny", vcpus=1, memory_mib=512, disk_gib=1),
        Flavor(name="m1.small", vcpus=1, memory_mib=2048, disk_gib=20),
        Flavor(name="m1.medium", vcpus=2, memory_mib=4096, disk_gib=40),
        Flavor(name="m1.large", vcpus=4, memory_mib=8192, disk_gib=80),
        Flavor(name="m1.xlarge", vcpus=8, memory_mib=16384, disk_gib=160),
    )
}
"""There from the start, recorded or not; the first change of any flavor records them, and from then on only records count."""


def sized_flavor_for(asked: str | FlavorSpec) -> Flavor | None:
    """The flavor that is spelled out, in fields or as c1-m128-d1; None for what must be the name of a recorded one.

    A name may go on with swap (MiB) and ephemeral disk (GiB): c1-m128-d1-s512-e2. Refused when a size is out of bounds.
    """
    if isinstance(asked, FlavorSpec):
        return flavor_of(asked)
    match = FLAVOR_NAME.fullmatch(asked)
    if match is None:
        return None
    sizes = ("vcpus", "memory_mib", "disk_gib", "swap_mib", "ephemeral_gib")
    return flavor_of(parse_spec(FlavorSpec, dict(zip(sizes, map(int, match.groups(default="0")), strict=True))))


def unknown_flavor(name: str) -> Refused:
    """What is said of a flavor that is not there, or not for who asks."""
    return Refused(
        f"flavor: {name!r}: there is no such flavor; see `taskvisor flavor list`, or give a size like c1-m512-d1"
    )


def flavor_of(spec: FlavorSpec, name: str | None = None) -> Flavor:
    """The flavor that these fields are; without a name, its size is its name."""
    swap = f"-s{spec.swap_mib}" if spec.swap_mib else ""
    ephemeral = f"-e{spec.ephemeral_gib}" if spec.ephemeral_gib else ""
    return Flavor(
        name=name or f"c{spec.vcpus}-m{spec.memory_mib}-d{spec.disk_gib}{swap}{ephemeral}",
        vcpus=spec.vcpus,
        memory_mib=spec.memory_mib,
        disk_gib=spec.disk_gib,
        swap_mib=spec.swap_mib,
        ephemeral_gib=spec.ephemeral_gib,
        extra_specs=spec.extra_specs,
    )
