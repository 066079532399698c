"""Addresses of networks: given out one by one, never twice, and given back.

A port's address is found again under the port's id, so a request that is repeated after a crash gets the same one.
"""

import math
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec

from taskvisor.model.errors import Busy, NoCapacity, Refused, StoreConflict, UnreadableRecord
from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.network import Network
from taskvisor.model.subnets import (
    Address,
    Subnet,
    makes_own_address6,
    slaac_address_for,
    subnets_of,
    taken_addresses,
)
from taskvisor.state.codec import log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

LIKELY_LOOKS = 64
"""So many addresses beyond those asked for are looked at for likely ones."""
LOW_32_BITS = (1 << 32) - 1

ALLOCATE = """
local network, addresses, ports, freed, next_key, addresses6, ports6, next6, macs, allocating = unpack(KEYS)
local ask = cmsgpack.unpack(ARGV[1])
local note = ask.network .. ' ' .. ask.port .. ' ' .. ask.mac
if redis.call('EXISTS', network) == 0 then return {'gone', ''} end
local mac_owner = redis.call('HGET', macs, ask.network .. ' ' .. ask.mac)
if mac_owner and mac_owner ~= ask.port then return {'mac', mac_owner} end
local held, held6 = redis.call('HGET', ports, ask.port), redis.call('HGET', ports6, ask.port) or ''
if held then
  if mac_owner ~= ask.port or (ask.wanted ~= '' and ask.wanted ~= held) then return {'other', held} end
  if ask.wanted6 ~= '' and ask.wanted6 ~= held6 then return {'other', held6} end
  redis.call('ZADD', allocating, 'XX', ask.now, note)
  return {'ok', held, held6}
end
local function dotted(number)
  return string.format('%d.%d.%d.%d', math.floor(number / 16777216) % 256, math.floor(number / 65536) % 256,
    math.floor(number / 256) % 256, number % 256)
end
local function with_colons(parts)
  local best_at, best, at, length = 0, 1, 0, 0
  for index = 1, 8 do
    if parts[index] == 0 then
      if length == 0 then at = index end
      length = length + 1
      if length > best then best_at, best = at, length end
    else length = 0 end
  end
  local text, index = '', 1
  while index <= 8 do
    if index == best_at then text, index = text .. '::', index + best
    else
      if text ~= '' and string.sub(text, -1) ~= ':' then text = text .. ':' end
      text, index = text .. string.format('%x', parts[index]), index + 1
    end
  end
  return text
end
local function free6()
  local offset, tries = tonumber(redis.call('GET', next6) or 0), redis.call('HLEN', addresses6) + ask.taken + 2
  for _ = 1, tries do
    offset = offset + 1
    if offset > ask.last6 then offset = 1 end
    local low, parts = ask.base6 + offset, {unpack(ask.high6)}
    parts[7], parts[8] = math.floor(low / 65536), low % 65536
    local address = with_colons(parts)
    if not ask.is_taken[address] and redis.call('HEXISTS', addresses6, address) == 0 then return address, offset end
  end
  return false
end
local function free4()
  local offset = tonumber(redis.call('GET', next_key) or 0)
  while offset < ask.last do
    offset = offset + 1
    local address = dotted(ask.base + offset)
    if not ask.is_taken[address] and redis.call('HEXISTS', addresses, address) == 0 then
      redis.call('SET', next_key, offset)
      return address
    end
  end
  redis.call('SET', next_key, offset)
  local oldest = redis.call('ZPOPMIN', freed)
  while oldest[1] do
    if redis.call('HEXISTS', addresses, oldest[1]) == 0 then return oldest[1] end
    oldest = redis.call('ZPOPMIN', freed)
  end
  return false
end
local address, address6, offset6 = ask.wanted, ask.wanted6, false
for _, wish in ipairs({{addresses, address, 'address'}, {addresses6, address6, 'address6'}}) do
  local owner = wish[2] ~= '' and redis.call('HGET', wish[1], wish[2])
  if owner then return {wish[3], owner} end
end
if address6 == '' and ask.last6 > 0 then
  address6, offset6 = free6()
  if not address6 then return {'full6', ''} end
end
if address == '' then address = free4() end
if not address then return {'full', ''} end
redis.call('ZREM', freed, address)
redis.call('HSET', addresses, address, ask.port)
redis.call('HSET', ports, ask.port, address)
if address6 ~= '' then
  redis.call('HSET', addresses6, address6, ask.port)
  redis.call('HSET', ports6, ask.port, address6)
  if offset6 then redis.call('SET', next6, offset6) end
end
redis.call('HSET', macs, ask.network .. ' ' .. ask.mac, ask.port)
redis.call('ZADD', allocating, ask.now, note)
return {'ok', address, address6}
"""
"""IPv4 addresses never used come first, then those longest free: a neighbour's ARP cache has forgotten them by then. IPv6
addresses go round: of a subnet that large the last given back comes again last. They are written as RFC 5952 has them.

Whatever was found free is taken in the same run, both addresses or neither.

A port that has its address already is noted as being allocated only if it was (XX): one that has become part of an
instance meanwhile, by a twin of the request, must not be given back as forgotten.
"""


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """A port that was given an address and a MAC."""

    network_id: NetworkId
    port_id: PortId
    mac: str


@dataclass(frozen=True, kw_only=True)
class GivenAddresses:
    """What a port was given. `address6` None: its network has no IPv6."""

    address: str
    address6: str | None


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """What the script is asked. "" wants whatever is free; `last6` 0: IPv6 addresses are not given out one by one.

    An IPv6 address is `high6`, six groups of 16 bits, and the 32 bits of `base6` and an offset.
    """

    network: str
    port: str
    mac: str
    now: float
    is_taken: dict[str, bool]
    taken: int
    wanted: str
    base: int
    last: int
    wanted6: str
    high6: tuple[int, ...]
    base6: int
    last6: int


class Addresses:
    """The addresses of every network."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._allocate = client.register_script(ALLOCATE)

    def allocate(
        self,
        network: Network,
        port_id: PortId,
        *,
        mac: str,
        wanted: str | None,
        wanted6: str | None = None,
        now: float,
    ) -> GivenAddresses:
        """The addresses of the port: those it has, those wanted, or the next free ones; IPv6 where the network has it.

        Refused when a wanted address is not one for guests or is taken, or the MAC is, or the network is gone; NoCapacity when
        none is free; Busy when the port has another address or MAC, by another request of the same id that is not settled yet.
        """
        ask = _ask_for(network, port_id, mac, wanted, wanted6, now)
        keys = self._keys
        of_network = (keys.network, keys.addresses, keys.ports, keys.freed, keys.next_address)
        of_network6 = (keys.addresses6, keys.ports6, keys.next_address6)
        named = [part(network.id) for part in (*of_network, *of_network6)]
        with asking(f"allocate an address on network {network.name}"):
            verdict, found, *found6 = self._allocate(
                keys=[*named, keys.macs, keys.allocating], args=[msgspec.msgpack.encode(ask)]
            )
        if verdict != "ok":
            raise _refusal(str(verdict), str(found), network, ask)
        return GivenAddresses(address=str(found), address6=str(found6[0]) or None)

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

    def list_likely(self, network: Network, count: int) -> tuple[GivenAddresses, ...]:
        """What the next ports of the network will likely be given. Nothing is promised, and nothing is kept. IPv6 addresses that
        follow from a MAC are not told. Fewer, when too few are free nearby.
        """
        asked = (
            (0, self._keys.next_address, self._keys.addresses),
            (1, self._keys.next_address6, self._keys.addresses6),
        )
        found = [
            self._likely(network, subnets_of(network)[index], offset(network.id), held(network.id), count)
            for index, offset, held in asked[: len(subnets_of(network))]
        ]
        firsts, seconds = found[0], found[1] if len(found) > 1 else ()
        return tuple(
            GivenAddresses(address=one, address6=seconds[number] if number < len(seconds) else None)
            for number, one in enumerate(firsts)
        )

    def _likely(self, network: Network, subnet: Subnet, offset_key: str, held_key: str, count: int) -> tuple[str, ...]:
        taken = taken_addresses(network)
        with asking(f"look which addresses of network {network.name} are free"):
            first = int(self._client.get(offset_key) or 0) + 1
            offsets = range(first, min(first + count + LIKELY_LOOKS, subnet.num_addresses - 1))
            named = [str(subnet.network_address + offset) for offset in offsets]
            owners = self._client.hmget(held_key, named) if named else []
        free = (one for one, owner in zip(named, owners, strict=True) if owner is None and one not in taken)
        return tuple(one for one, _ in zip(free, range(count), strict=False))

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
    """Add to a transaction: the port's addresses and MAC are given back, if they are still its own."""
    tx.do("free", keys.addresses(network_id), keys.ports(network_id), keys.freed(network_id), port_id)
    tx.do("free", keys.addresses6(network_id), keys.ports6(network_id), "", port_id)
    tx.do("disown", keys.macs, f"{network_id} {mac}", port_id)
    tx.do("ZREM", keys.allocating, allocating_member(network_id, port_id, mac))


def _ask_for(network: Network, port_id: PortId, mac: str, wanted: str | None, wanted6: str | None, now: float) -> _Ask:
    subnet, *more = subnets_of(network)
    taken = taken_addresses(network)
    if wanted is not None:
        _require_for_guests("address", ip_address(wanted), subnet, network, taken)
    if wanted6 is not None:
        _require_address6(wanted6, mac, network, taken)
    elif makes_own_address6(network):
        wanted6 = slaac_address_for(str(network.cidr6), mac)
    high6, base6, last6 = _pool6(more[0]) if more and wanted6 is None else ((), 0, 0)
    return _Ask(
        network=network.id,
        port=port_id,
        mac=mac,
        now=now,
        is_taken=dict.fromkeys(sorted(taken), True),
        taken=len(taken),
        wanted=wanted or "",
        base=int(subnet.network_address),
        last=subnet.num_addresses - 2,  # the last is the broadcast address
        wanted6=wanted6 or "",
        high6=high6,
        base6=base6,
        last6=last6,
    )


def _pool6(subnet: Subnet) -> tuple[tuple[int, ...], int, int]:
    """Of a larger subnet the first 2^32 addresses. Not the very first: it is any router's (RFC 4291 §2.6.1)."""
    low = int(subnet.network_address) & LOW_32_BITS
    high = tuple(int(subnet.network_address) >> shift & 0xFFFF for shift in range(112, 31, -16))
    return high, low, min(subnet.num_addresses - 1, LOW_32_BITS - low)


def _refusal(verdict: str, found: str, network: Network, ask: _Ask) -> Exception:
    name = f"network {network.name!r}"
    if verdict == "gone":
        return Refused(f"networks: {network.name!r}: it was deleted just now; see `taskvisor networks`")
    if verdict == "other":
        return Busy(f"port {ask.port} has {found} by an earlier request of the same task id, which is being settled")
    if verdict == "full":
        return NoCapacity(f"{name}: all {_room_of(network)} addresses of {network.cidr} are taken")
    if verdict == "full6":
        return NoCapacity(f"{name}: all addresses of {network.cidr6} are taken")
    if verdict == "address6" and makes_own_address6(network):
        advice = "that MAC makes it (RFC 4291); choose another mac"
        return Refused(f"address6: {ask.wanted6} on {name} belongs to port {found}; {advice}")
    wished = {"mac": ask.mac, "address": ask.wanted, "address6": ask.wanted6}[verdict]
    return Refused(f"{verdict}: {wished} on {name} belongs to port {found}; choose another")


def _room_of(network: Network) -> int:
    """How many guests may have an IPv4 address of the network."""
    subnet = subnets_of(network)[0]
    return subnet.num_addresses - 2 - sum(ip_address(one) in subnet for one in taken_addresses(network))


def _require_address6(wanted6: str, mac: str, network: Network, taken: frozenset[str]) -> None:
    if network.cidr6 is None:
        raise Refused(f"address6: {wanted6}: network {network.name!r} has no IPv6; leave it out")
    own = slaac_address_for(network.cidr6, mac)
    if makes_own_address6(network) and wanted6 != own:
        raise Refused(
            f"address6: {wanted6}: guests of network {network.name!r} make their own, with {mac} {own}; leave it out"
        )
    _require_for_guests("address6", ip_address(wanted6), subnets_of(network)[1], network, taken)


def _require_for_guests(field: str, wanted: Address, subnet: Subnet, network: Network, taken: frozenset[str]) -> None:
    if wanted.version != subnet.version or wanted not in subnet:
        raise Refused(f"{field}: {wanted} is not in {subnet}, the addresses of network {network.name!r}")
    own = {subnet.network_address} if subnet.version == 6 else {subnet.network_address, subnet.broadcast_address}
    if wanted in own or str(wanted) in (network.gateway, network.gateway6):
        raise Refused(f"{field}: {wanted} is the network's own, its gateway's or its broadcast address; choose another")
    if str(wanted) in taken:
        raise Refused(f"{field}: {wanted} is a server's or router's that guests are told of; choose another")
