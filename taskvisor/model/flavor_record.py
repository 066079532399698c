"""A flavor that has a name of its own, as it is stored and as callers see it. Which there are, it does not know."""

from dataclasses import dataclass
from typing import TypedDict

from taskvisor.model.ids import FlavorId
from taskvisor.model.records import Flavor


@dataclass(frozen=True, kw_only=True)
class FlavorRecord:
    """A flavor that has a name of its own. One that is not `public` is there for `projects` only; they are sorted.

    Instances hold their flavors whole: what becomes of the record changes none of them.
    """

    id: FlavorId
    flavor: Flavor
    public: bool = True
    projects: tuple[str, ...] = ()
    created_at: float = 0.0

    def is_for(self, project: str) -> bool:
        """The project may build with it. For others it is not there at all."""
        return self.public or project in self.projects


class FlavorView(TypedDict):
    """A flavor as its record says. `projects` may have it when it is not public."""

    id: str
    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    swap_mib: int
    ephemeral_gib: int
    extra_specs: dict[str, str]
    public: bool
    projects: list[str]


def flavor_view(record: FlavorRecord) -> FlavorView:
    """The flavor for its caller."""
    flavor = record.flavor
    return {
        "id": record.id,
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "memory_mib": flavor.memory_mib,
        "disk_gib": flavor.disk_gib,
        "swap_mib": flavor.swap_mib,
        "ephemeral_gib": flavor.ephemeral_gib,
        "extra_specs": dict(flavor.extra_specs),
        "public": record.public,
        "projects": list(record.projects),
    }
