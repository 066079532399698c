"""What hosts must know of a network beyond their own ports, and which hosts must know of a change. Reads only.

Two round trips, however many ports there are: the network with its members, then what follows from them. In between the
records may move: whoever moves them tells the hosts afterwards, and they look again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from taskvisor.model.errors import Refused
from taskvisor.model.ids import FloatingId, HostName, NetworkId, PortId, SecurityGroupId
from taskvisor.model.network import FloatingAddress, Member, Network, SecurityGroup, Surroundings
from taskvisor.model.network_clash import FLOATING_KINDS
from taskvisor.model.records import Inventory
from taskvisor.state.codec import OnUnreadable, decode, decode_each, decode_many, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

NETWORK_SCRIPT = "return {redis.call('GET', KEYS[1]), redis.call('HVALS', KEYS[2])}"
FOLLOW_SCRIPT = """
local remotes, floating_ports, floating = unpack(KEYS)
local asked = cmsgpack.unpack(ARGV[1])
local groups, hosts, named, places, bound, seen = {}, {}, {}, {}, {}, {}
for _, id in ipairs(asked.groups) do
  table.insert(groups, redis.call('GET', ARGV[2] .. id))
  for remote in string.gmatch(redis.call('HGET', remotes, id) or '', '%S+') do
    if not seen[remote] then
      seen[remote] = true
      table.insert(named, remote)
      table.insert(places, redis.call('HVALS', ARGV[3] .. remote))
    end
  end
end
for _, host in ipairs(asked.hosts) do table.insert(hosts, redis.call('HGET', ARGV[4] .. host, 'inventory')) end
if redis.call('EXISTS', floating_ports) == 1 then
  for _, port in ipairs(asked.ports) do
    local id = redis.call('HGET', floating_ports, port)
    if id then table.insert(bound, {id, redis.call('HGET', floating, id), port}) end
  end
end
return {groups, hosts, named, places, bound}
"""


@dataclass(frozen=True, kw_only=True)
class _Followed:
    """What follows from the members of a network: their groups, those that these name as remote, their hosts' tunnels, and
    their floating addresses.
    """

    groups: tuple[SecurityGroup, ...]
    group_addresses: Mapping[SecurityGroupId, tuple[str, ...]]
    tunnels: Mapping[HostName, str]
    floating: tuple[FloatingAddress, ...]


class SurroundingsReader:
    """Safe in threads. `on_unreadable` is told of each record that can't be read; what it says is then left out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._read_network = client.register_script(NETWORK_SCRIPT)
        self._follow = client.register_script(FOLLOW_SCRIPT)

    def read_surroundings(self, network_id: NetworkId) -> Surroundings:
        """All that a host must know of the network, as it is now. Refused when there is no such network."""
        keys = [self._keys.network(network_id), self._keys.members(network_id)]
        with asking(f"read the surroundings of network {network_id}"):
            text, members = self._read_network(keys=keys)
        if text is None:
            raise Refused(f"network: {network_id}: there is no such network; see `taskvisor networks`")
        network = decode(str(text), Network, f"network {network_id}")
        there = sorted(
            self._members_in(members, f"a member of network {network_id}"), key=lambda member: member.port_id
        )
        followed = self._followed(network, there)
        return Surroundings(
            network=network,
            members=tuple(there),
            tunnels=followed.tunnels,
            groups=followed.groups,
            group_addresses=followed.group_addresses,
            floating=followed.floating,
        )

    def _followed(self, network: Network, members: Collection[Member]) -> _Followed:
        groups = sorted({group_id for member in members for group_id in member.security_groups})
        hosts = sorted({member.host for member in members})
        ports = [member.port_id for member in members] if network.kind in FLOATING_KINDS else []
        asked = msgspec.msgpack.encode({"groups": groups, "hosts": hosts, "ports": ports})
        keys = self._keys
        stems = keys.group(""), keys.grouped(""), keys.host("")
        with asking(f"read the security groups and hosts of network {network.name}"):
            answers = self._follow(keys=[keys.remotes, keys.floating_ports, keys.floating], args=[asked, *stems])
        texts, inventories, remotes, places, bound = answers
        named = [(f"security group {one}", text) for one, text in zip(groups, texts, strict=True)]
        return _Followed(
            groups=tuple(decode_each(named, SecurityGroup, self._on_unreadable)),
            group_addresses={
                SecurityGroupId(remote): tuple(sorted(self._addresses_in(remote, theirs)))
                for remote, theirs in zip(remotes, places, strict=True)
            },
            tunnels=dict(self._tunnels(hosts, inventories)),
            floating=tuple(
                FloatingAddress(id=FloatingId(one), address=address, port_id=PortId(port))
                for one, address, port in bound
            ),
        )

    def _tunnels(self, hosts: Iterable[HostName], inventories: Iterable[object]) -> Iterator[tuple[HostName, str]]:
        for host, text in zip(hosts, inventories, strict=True):
            for inventory in decode_each([(f"inventory of {host}", text)], Inventory, self._on_unreadable):
                if inventory.tunnel_address is not None:
                    yield host, inventory.tunnel_address

    def _members_in(self, texts: Iterable[object], what: str) -> list[Member]:
        return decode_many([str(text) for text in texts], Member, what, self._on_unreadable)

    def _addresses_in(self, group_id: str, places: Iterable[object]) -> set[str]:
        texts = (str(place).partition(" ")[2] for place in places)
        members = self._members_in(texts, f"a port of security group {group_id}")
        return {address for member in members for address in member.addresses}

    def hosts_concerned(
        self,
        networks: Collection[NetworkId] = (),
        groups: Collection[SecurityGroupId] = (),
        rules_of: Collection[SecurityGroupId] = (),
    ) -> Mapping[HostName, tuple[NetworkId, ...]]:
        """Who must look at what: each host with those of the networks that it has ports of, that the change is about.

        `networks`: what is on them has changed; hosts with a port there. `groups`: other ports are in them now; hosts with a
        port in a group of which a rule names one of them as remote. `rules_of`: their rules have changed; hosts with a port
        in one of them.
        """
        keys = self._keys
        naming = self._naming(groups) if groups else frozenset()
        on_networks = sorted(set(networks))
        in_groups = sorted({*naming, *rules_of})
        with asking("read which hosts are concerned"), self._client.pipeline(transaction=False) as pipe:
            for key in (*map(keys.members, on_networks), *map(keys.grouped, in_groups)):
                pipe.hvals(key)
            answers = pipe.execute()
        texts_of: dict[str, list[str]] = {}
        for network_id, texts in zip(on_networks, answers, strict=False):
            texts_of.setdefault(network_id, []).extend(map(str, texts))
        for network, _, text in (str(place).partition(" ") for texts in answers[len(on_networks) :] for place in texts):
            texts_of.setdefault(network, []).append(text)
        found: dict[HostName, set[NetworkId]] = {}
        for network, texts in texts_of.items():
            for member in self._members_in(texts, f"a member of network {network}"):
                found.setdefault(member.host, set()).add(NetworkId(network))
        return {host: tuple(sorted(theirs)) for host, theirs in sorted(found.items())}

    def _naming(self, groups: Collection[SecurityGroupId]) -> frozenset[SecurityGroupId]:
        """The groups of which a rule names one of these as remote."""
        with asking("read which security groups name each other"):
            remotes = self._client.hgetall(self._keys.remotes)
        named = {SecurityGroupId(str(one)): frozenset(str(words).split()) for one, words in remotes.items()}
        return frozenset(one for one, theirs in named.items() if not theirs.isdisjoint(groups))
