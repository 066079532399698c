"""Choosing a host. Every rule is asked of every host, and what each said is kept: placement explains itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from taskvisor.compute.resources.kind import GuestWants
from taskvisor.compute.resources.table import resources_for as resources_for  # noqa: PLC0414 - its callers find it here
from taskvisor.model.errors import NoCapacity
from taskvisor.model.ids import HostName
from taskvisor.model.network import PHYSICAL_KINDS, Network, NetworkKind
from taskvisor.model.records import Host, Resources

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is to be placed. `image_host` is set when the image lies on one host only; `host` when only that one will do.

    `networks` are those that the guest is to be on.
    """

    resources: Resources
    host: HostName | None = None
    image_host: HostName | None = None
    excluded: tuple[HostName, ...] = ()
    networks: tuple[Network, ...] = ()
    wants: GuestWants | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one rule said against one host, with numbers. A host without verdicts fits."""

    host: HostName
    rule: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Hosts that fit, best first, and what speaks against each of the others."""

    candidates: tuple[Host, ...]
    verdicts: tuple[Verdict, ...]


Rule = Callable[[Ask, Host], str | None]
"""None when the host passes, else the reason."""


def _is_up(_: Ask, host: Host) -> str | None:
    return None if host.up else "its worker has not been heard of lately"


def _is_enabled(_: Ask, host: Host) -> str | None:
    return None if host.disabled_reason is None else f"it is disabled: {host.disabled_reason}"


def _has_reported(_: Ask, host: Host) -> str | None:
    return None if host.inventory is not None else "it has not reported its resources yet"


def _is_sound(_: Ask, host: Host) -> str | None:
    if host.inventory is None or not host.inventory.problems:
        return None
    return f"it takes nothing: {'; '.join(host.inventory.problems)}"


def _is_the_host_asked_for(ask: Ask, host: Host) -> str | None:
    return None if ask.host in (None, host.name) else f"only host {ask.host} was asked for"


def _has_the_image(ask: Ask, host: Host) -> str | None:
    return None if ask.image_host in (None, host.name) else f"the image lies on host {ask.image_host} only"


def _is_connected(ask: Ask, host: Host) -> str | None:
    """What the networks need that the host was not told of; what it lacks besides (a bridge, an MTU) it says when asked."""
    if host.inventory is None:
        return None
    has, tunnel = host.inventory.physical_networks, host.inventory.tunnel_address
    lacking = [
        f"it has no interface on physical network {network.physical}, which network {network.name} is on"
        for network in ask.networks
        if network.kind in PHYSICAL_KINDS and network.physical not in has
    ]
    lacking += [
        f"it has no tunnel address, which network {network.name} needs"
        for network in ask.networks
        if network.kind is NetworkKind.VXLAN and tunnel is None
    ]
    return "; ".join(dict.fromkeys(lacking)) or None


def _has_not_refused(ask: Ask, host: Host) -> str | None:
    return "it said already that the guest does not fit" if host.name in ask.excluded else None


def _has_room(ask: Ask, host: Host) -> str | None:
    """All that is short, not only the first."""
    if host.inventory is None:
        return None
    limits, used = dict(host.inventory.limits.amounts()), dict(host.used.amounts())
    short = [
        f"{name} {amount} asked, {limits.get(name, 0) - used.get(name, 0)} of {limits.get(name, 0)} free"
        for name, amount in ask.resources.amounts()
        if amount > limits.get(name, 0) - used.get(name, 0)
    ]
    return "; ".join(short) or None


RULES: tuple[tuple[str, Rule], ...] = (
    ("up", _is_up),
    ("enabled", _is_enabled),
    ("reported", _has_reported),
    ("sound", _is_sound),
    ("host", _is_the_host_asked_for),
    ("image", _has_the_image),
    ("network", _is_connected),
    ("excluded", _has_not_refused),
    ("capacity", _has_room),
)


def placement_for(ask: Ask, hosts: Iterable[Host]) -> Placement:
    """Judge every host by every rule. Among those that fit, the one with most free memory comes first (spread)."""
    candidates, verdicts = [], []
    for host in hosts:
        against = [
            Verdict(host=host.name, rule=name, reason=reason) for name, rule in RULES if (reason := rule(ask, host))
        ]
        verdicts += against
        if not against:
            candidates.append(host)
    candidates.sort(key=lambda host: (-_free_memory_mib(host), host.instances, host.name))
    return Placement(candidates=tuple(candidates), verdicts=tuple(verdicts))


def _free_memory_mib(host: Host) -> int:
    return host.inventory.limits.memory_mib - host.used.memory_mib if host.inventory else 0


def no_capacity(ask: Ask, verdicts: Iterable[Verdict]) -> NoCapacity:
    """The error for a guest that fits nowhere: every host with every reason, in one sentence."""
    reasons: dict[HostName, list[str]] = {}
    for verdict in verdicts:
        reasons.setdefault(verdict.host, []).append(verdict.reason)
    asked = ", ".join(f"{name} {amount}" for name, amount in ask.resources.amounts())
    if not reasons:
        return NoCapacity(f"no host has ever reported; start one with `taskvisor worker` (asked: {asked})")
    table = "; ".join(f"{host}: {', '.join(why)}" for host, why in reasons.items())
    return NoCapacity(f"no host fits ({asked}): {table}")
