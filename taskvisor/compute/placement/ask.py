"""What is to be placed, and what a rule may answer. Values only."""

from collections.abc import Callable
from dataclasses import dataclass

from taskvisor.compute.resources.kind import GuestWants
from taskvisor.model.ids import HostName
from taskvisor.model.network import Network
from taskvisor.model.records import Host, Resources
from taskvisor.model.server_group import GroupPolicy
from taskvisor.model.states import VirtType


@dataclass(frozen=True, kw_only=True)
class Companions:
    """The server group that the guest is to be a member of: its policy, and how many other members each host has."""

    name: str
    policy: GroupPolicy
    servers_per_host: int
    members: tuple[tuple[HostName, int], ...]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is to be placed. `image_host` is set when the image lies on one host only; `host` when only that one will do.

    `networks` are those that the guest is to be on. Labels are KEY or KEY=VALUE. Traits are os-traits' words. `capabilities` and
    `aggregate_specs` are the flavor's, each a name without its namespace and what it must be (`requirement.py`).
    """

    resources: Resources
    host: HostName | None = None
    image_host: HostName | None = None
    excluded: tuple[HostName, ...] = ()
    networks: tuple[Network, ...] = ()
    project: str = "default"
    zone: str | None = None
    required_labels: tuple[str, ...] = ()
    forbidden_labels: tuple[str, ...] = ()
    arch: str | None = None
    virt_type: VirtType | None = None
    required_traits: tuple[str, ...] = ()
    forbidden_traits: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, str], ...] = ()
    aggregate_specs: tuple[tuple[str, str], ...] = ()
    companions: Companions | None = None
    image_sha256: str | None = None
    wants: GuestWants | None = None
    """What else it is that asks: where it would lie on a host is computed from that."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a host will not do, with numbers, and what would make it fit. `distance` is how far it is from that: below 1 for a
    host that is a little too full, 1 for most, more for one that nothing can be placed on at all.
    """

    reason: str
    remedy: str
    distance: float = 1.0


Judge = Callable[[Host], Refusal | None]
"""Judges one host; None: nothing speaks against it. It may raise nothing for a host that has an inventory."""

Filter = Callable[[Ask], Judge | None]
"""A rule: how hosts are judged for what is asked. None: this rule has nothing to say about it. Pure, and what it knows of a host
is in the host's record."""

Gauge = Callable[[Host], float]
"""The number of one host that fits: any finite one, and more of it is more of what the weigher is named for."""

Weigher = Callable[[Ask], Gauge | None]
"""A gauge for what is asked. None: it does not matter to it."""
