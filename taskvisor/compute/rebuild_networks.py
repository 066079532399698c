"""Networks, security groups and floating addresses, out of what hosts were told of them. Pure.

Each host keeps what it was told last of every network that it has ports of. All who have ports of a network are told of each
change, so of the hosts that answer the one that was told last knows what is so.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from taskvisor.model.group_spec import DEFAULT_GROUP, default_group_for
from taskvisor.model.holdings import HostHoldings
from taskvisor.model.ids import FloatingId, HostName, NetworkId, SecurityGroupId, security_group_id_for
from taskvisor.model.network import FloatingAddress, Member, Network, SecurityGroup, Surroundings
from taskvisor.model.rebuilding import Conflict, ConflictKind, Note


@dataclass(frozen=True, kw_only=True)
class NetworksTold:
    """What the hosts know, each network by the one that was told last. `tellers`: who was told what of each network."""

    latest: Mapping[NetworkId, Surroundings]
    groups: Mapping[SecurityGroupId, SecurityGroup]
    floating: Mapping[FloatingId, FloatingAddress]
    tellers: Mapping[NetworkId, Mapping[HostName, Network]]

    def members(self) -> Iterator[tuple[NetworkId, Member]]:
        """Every port that any of them knows, with its network."""
        for network_id, around in self.latest.items():
            for member in around.members:
                yield network_id, member


def networks_told(told: Iterable[HostHoldings]) -> NetworksTold:
    """What the hosts know of networks, all of it."""
    copies = [(holdings.host, copy) for holdings in told for copy in holdings.networks]
    in_order = sorted(copies, key=lambda pair: (pair[1].told_at, pair[0]))
    latest: dict[NetworkId, tuple[float, Surroundings]] = {}
    tellers: dict[NetworkId, dict[HostName, Network]] = {}
    for host, copy in in_order:
        if copy.around is not None:
            latest[copy.network_id] = (copy.told_at, copy.around)
            tellers.setdefault(copy.network_id, {})[host] = copy.around.network
    by_age = [around for _, around in sorted(latest.values(), key=lambda pair: pair[0])]
    return NetworksTold(
        latest={network_id: around for network_id, (_, around) in sorted(latest.items())},
        groups={group.id: group for around in by_age for group in around.groups},
        floating={floating.id: floating for around in by_age for floating in around.floating},
        tellers=tellers,
    )


def differing(told: NetworksTold) -> Iterator[Conflict]:
    """Networks that hosts were told differently. A network's record never changes, so one of them is wrong."""
    for network_id, tellers in sorted(told.tellers.items()):
        if len(set(tellers.values())) > 1:
            said = "; ".join(f"{host}: {_said(network)}" for host, network in sorted(tellers.items()))
            yield Conflict(
                kind=ConflictKind.NETWORK_DIFFERS,
                subject=network_id,
                hosts=tuple(sorted(tellers)),
                message=f"network {network_id} is not the same on all hosts: {said}",
            )


def unlike_recorded(told: NetworksTold, recorded: Mapping[NetworkId, Network]) -> Iterator[Note]:
    """Networks that are recorded otherwise than hosts were told. The record stays."""
    for network_id, around in told.latest.items():
        there = recorded.get(network_id)
        if there is not None and there != around.network:
            said = f"it is recorded as {_said(there)}, and hosts were told {_said(around.network)}; the record stays"
            yield Note(host=None, subject=f"network {network_id}", message=said)


def groups_wanted(
    told: NetworksTold, named: Iterable[SecurityGroupId], present: Mapping[SecurityGroupId, SecurityGroup]
) -> tuple[tuple[SecurityGroup, ...], tuple[SecurityGroup, ...]]:
    """The groups to write, and those of them that nobody knows more of than that something names them: these have no rules.

    A group that a port is in, or a rule names, must be there.
    """
    known = {**told.groups, **present}
    by_rules = (rule.remote_group for group in known.values() for rule in group.rules)
    missing = {one for one in (*named, *by_rules) if one is not None and one not in known}
    default = security_group_id_for(DEFAULT_GROUP)
    unknown = tuple(SecurityGroup(id=one, name=one) for one in sorted(missing - {default}))
    made = (default_group_for(default),) if default in missing else ()
    fresh = tuple(group for one, group in sorted(told.groups.items()) if one not in present)
    return (*fresh, *made, *unknown), unknown


def _said(network: Network) -> str:
    words = (network.name, network.kind.value, network.cidr, network.gateway, f"MTU {network.mtu}")
    return " ".join(words) + (f" segment {network.segment}" if network.segment is not None else "")
