"""Aggregates: sets of hosts with properties, by which placement tells them apart. Nova's word, and its properties' names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from taskvisor.model.ids import HostName

ZONE = "availability_zone"
"""The property that makes an aggregate's hosts a zone."""
TENANT = "filter_tenant_id"
"""The property, alone or with anything after it, that names a project whose guests the hosts are kept for."""


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Hosts, by name and sorted, and what is said of them."""

    name: str
    hosts: tuple[HostName, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def zone(self) -> str | None:
        """The zone that its hosts are in; None: it makes none."""
        return self.properties.get(ZONE) or None

    @property
    def projects(self) -> frozenset[str]:
        """Those that its hosts are kept for; none: for all."""
        named = (text for key, text in self.properties.items() if key.startswith(TENANT))
        return frozenset(word for text in named for word in text.replace(",", " ").split())


def zone_of(aggregates: Iterable[Aggregate]) -> str | None:
    """The zone of a host that is in these: it has at most one."""
    return next((aggregate.zone for aggregate in aggregates if aggregate.zone), None)


def second_zone_of(aggregates: Iterable[Aggregate]) -> tuple[HostName, str, str] | None:
    """A host that would be in two zones, and which; None: no host is."""
    zones: dict[HostName, str] = {}
    for aggregate in aggregates:
        if aggregate.zone is None:
            continue
        for host in aggregate.hosts:
            first = zones.setdefault(host, aggregate.zone)
            if first != aggregate.zone:
                return host, first, aggregate.zone
    return None
