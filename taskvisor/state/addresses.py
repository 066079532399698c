"""Addresses of networks: given out one by one, never twice, and given back.

A port's address is found again under the port's id, so a request that is repeated after a crash gets the same one.
"""

import ipaddress
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from taskvisor.model.errors import Busy, NoCapacity, Refused, StoreConflict, UnreadableRecord
from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.network import Network
from taskvisor.state.codec import log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

ALLOCATE = """
local addresses, ports, freed, next_key, macs, allocating = unpack(KEYS)
local ask = cmsgpack.unpack(ARGV[1])
local note = ask.network .. ' ' .. ask.port .. ' ' .. ask.mac
local mac_owner = redis.call('HGET', macs, ask.network .. ' ' .. ask.mac)
if mac_owner and mac_owner ~= ask.port then return {'mac', mac_owner} end
local held = redis.call('HGET', ports, ask.port)
if held then
  if mac_owner ~= ask.port or (ask.wanted ~= '' and ask.wanted ~= held) then return {'other', held} end
  redis.call('ZADD', allocating, 'XX', ask.now, note)
  return {'ok', held}
end
local function dotted(number)
  return string.format('%d.%d.%d.%d', math.floor(number / 16777216) % 256, math.floor(number / 65536) % 256,
    math.floor(number / 256) % 256, number % 256)
end
local function take(address)
  redis.call('HSET', addresses, address, ask.port)
  redis.call('HSET', ports, ask.port, address)
  redis.call('HSET', macs, ask.network .. ' ' .. ask.mac, ask.port)
  redis.call('ZADD', allocating, ask.now, note)
  return {'ok', address}
end
if ask.wanted ~= '' then
  local owner = redis.call('HGET', addresses, ask.wanted)
  if owner then return {'address', owner} end
  redis.call('ZREM', freed, ask.wanted)
  return take(ask.wanted)
end
local offset = tonumber(redis.call('GET', next_key) or ask.first - 1)
while offset < ask.last do
  offset = offset + 1
  local address = dotted(ask.base + offset)
  if redis.call('HEXISTS', addresses, address) == 0 then
    redis.call('SET', next_key, offset)
    return take(address)
  end
end
redis.call('SET', next_key, offset)
local oldest = redis.call('ZPOPMIN', freed)
while oldest[1] do
  if redis.call('HEXISTS', addresses, oldest[1]) == 0 then return take(oldest[1]) end
  oldest = redis.call('ZPOPMIN', freed)
end
return {'full', ''}
"""
"""Addresses never used come first, then those longest free: a neighbour's ARP cache has forgotten them by then.

A port that has its address already is noted as being allocated only if it was (XX): one that has become part of an
instance meanwhile, by a twin of the request, must not be given back as forgotten.
"""


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """A port that was given an address and a MAC."""

    network_id: NetworkId
    port_id: PortId
    mac: str


class Addresses:
    """The addresses of every network."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._allocate = client.register_script(ALLOCATE)

    def allocate(self, network: Network, port_id: PortId, *, mac: str, wanted: str | None, now: float) -> str:
        """The address of the port: the one it has, the one wanted, or the next free one.

        Refused when the wanted address is not one for guests or is taken, or the MAC is; NoCapacity when none is free;
        Busy when the port has another address or MAC, by another request of the same id that is not settled yet.
        """
        subnet = ipaddress.IPv4Network(network.cidr)
        if wanted is not None:
            _require_for_guests(wanted, subnet, network)
        ask = {
            "network": network.id,
            "port": port_id,
            "mac": mac,
            "wanted": wanted or "",
            "base": int(subnet.network_address),
            "first": 2,  # 0 is the network's own, 1 the gateway's
            "last": subnet.num_addresses - 2,
            "now": now,
        }
        keys = self._keys
        of_network = [part(network.id) for part in (keys.addresses, keys.ports, keys.freed, keys.next_address)]
        with asking(f"allocate an address on network {network.name}"):
            verdict, found = self._allocate(
                keys=[*of_network, keys.macs, keys.allocating], args=[msgspec.msgpack.encode(ask)]
            )
        if verdict == "mac":
            raise Refused(f"mac: {mac} on network {network.name!r} belongs to port {found}; choose another")
        if verdict == "address":
            raise Refused(f"address: {wanted} on network {network.name!r} belongs to port {found}; choose another")
        if verdict == "other":
            raise Busy(f"port {port_id} has {found} by an earlier request of the same task id, which is being settled")
        if verdict == "full":
            raise NoCapacity(
                f"network {network.name!r}: all {subnet.num_addresses - 3} addresses of {subnet} are taken"
            )
        return str(found)

    def give_back(self, port: Allocated, *, noted_before: float = math.inf) -> bool:
        """The address and MAC of a port that is not part of an instance are free again.

        False, and nothing is done, when it became part of one, was given back before, or was allocated anew since that
        time: ports of instances are given back with their instance's record alone.
        """
        tx, keys = Transaction(), self._keys
        member = allocating_member(port.network_id, port.port_id, port.mac)
        tx.require_scored(keys.allocating, member, noted_before, StoreConflict)
        free_port(tx, keys, port.network_id, port.port_id, port.mac)
        try:
            tx.run(self._client, f"give back port {port.port_id}")
        except StoreConflict:
            return False
        return True

    def list_forgotten(self, before: float) -> tuple[Allocated, ...]:
        """Ports allocated before that time by a request that never became an operation."""
        with asking("list forgotten ports"):
            members = self._client.zrangebyscore(self._keys.allocating, "-inf", before, start=0, num=1000)
        ports = (_allocated_in(str(member)) for member in members)
        return tuple(port for port in ports if port is not None)


def allocating_member(network_id: NetworkId, port_id: PortId, mac: str) -> str:
    """How a port is noted while its request is not yet an operation."""
    return f"{network_id} {port_id} {mac}"


def _allocated_in(member: str) -> Allocated | None:
    """The reverse; None for what is no note of ours, which is told of and left alone."""
    parts = member.split(" ")
    if len(parts) != 3:
        log_unreadable(UnreadableRecord(f"note {member!r} of an allocated port is not a network, a port and a MAC"))
        return None
    network, port, mac = parts
    return Allocated(network_id=NetworkId(network), port_id=PortId(port), mac=mac)


def free_port(tx: Transaction, keys: Keys, network_id: NetworkId, port_id: PortId, mac: str) -> None:
    """Add to a transaction: the port's address and MAC are given back, if they are still its own."""
    tx.do("free", keys.addresses(network_id), keys.ports(network_id), keys.freed(network_id), port_id)
    tx.do("disown", keys.macs, f"{network_id} {mac}", port_id)
    tx.do("ZREM", keys.allocating, allocating_member(network_id, port_id, mac))


def _require_for_guests(wanted: str, subnet: ipaddress.IPv4Network, network: Network) -> None:
    address = ipaddress.IPv4Address(wanted)
    if address not in subnet:
        raise Refused(f"address: {wanted} is not in {subnet}, the addresses of network {network.name!r}")
    if address in (subnet.network_address, subnet.broadcast_address) or wanted == network.gateway:
        raise Refused(f"address: {wanted} is the network's own, its gateway's or its broadcast address; choose another")
