"""All records in one look, as plain values: read on a way of its own, so that the product's readers are not trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

PREFIX = "taskvisor:"
READ = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local content
  if string.find(key, '^taskvisor:op:') then
    local parts = redis.call('HMGET', key, 'phase', 'doc')
    local open = parts[1] == 'running' or parts[1] == 'rolling_back' or parts[1] == 'waiting' or parts[1] == 'stuck'
    content = {parts[1], (ARGV[1] == 'all' or open) and parts[2] or ''}
  elseif kind == 'string' then content = redis.call('GET', key)
  elseif kind == 'hash' then content = redis.call('HGETALL', key)
  elseif kind == 'set' then content = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1)
  end
  if content then table.insert(found, {key, content}) end
end
return cmsgpack.pack(found)
"""

Value = Any
"""JSON."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The records at one moment. `phases` are of all operations, `operations` are the documents of those that are open.

    `allocating` are the notes of ports that were given out to requests. `ports` are by network and port, `addresses` by
    network and address, `macs` by "<network> <mac>". `volumes` are who holds each, by
    identity. `results` are what callers see, by operation.
    """

    instances: Mapping[str, Value]
    phases: Mapping[str, str]
    operations: Mapping[str, Value]
    leases: Mapping[str, Mapping[str, str]]
    names: Mapping[str, str]
    claims: Mapping[str, Mapping[str, Mapping[str, int]]]
    used: Mapping[str, Mapping[str, int]]
    hosts: Mapping[str, Value]
    ports: Mapping[tuple[str, str], str]
    addresses: Mapping[tuple[str, str], str]
    macs: Mapping[str, str]
    allocating: frozenset[str]
    images: Mapping[str, str]
    image_records: Mapping[str, Value]
    volumes: Mapping[str, Mapping[str, str]]
    unsettled: frozenset[str]
    results: Mapping[str, str]


class Records:
    """Reads them."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self._read = self.client.register_script(READ)

    def read(self, which: str = "open") -> Seen:
        """`which`: documents of "open" operations, or of "all"."""
        found = {key.removeprefix(PREFIX): content for key, content in msgspec.msgpack.decode(self._read(args=[which]))}
        of = _ByKind(found)
        return Seen(
            instances={key: _json(text) for key, text in of.kind("instance").items()},
            phases={key: parts[0] for key, parts in of.kind("op").items()},
            operations={key: _json(parts[1]) for key, parts in of.kind("op").items() if parts[1]},
            leases={key: _hash(flat) for key, flat in of.kind("lease").items()},
            names=_hash(found.get("names", [])),
            claims={
                key: {owner: _json(text) for owner, text in _hash(flat).items()}
                for key, flat in of.kind("claims").items()
            },
            used={
                key: {kind: int(amount) for kind, amount in _hash(flat).items()}
                for key, flat in of.kind("used").items()
            },
            hosts={key: _json(_hash(flat).get("inventory", "null")) for key, flat in of.kind("host").items()},
            ports=_of_networks(of.kind("ports")),
            addresses=_of_networks(of.kind("addresses")),
            macs=_hash(found.get("macs", [])),
            allocating=frozenset(note.split(" ")[1] for note in found.get("allocating", [])),
            images=_hash(found.get("images", [])),
            image_records={key: _json(text) for key, text in of.kind("image").items()},
            volumes={key: _hash(flat) for key, flat in of.kind("volume").items()},
            unsettled=frozenset(found.get("ops:unsettled", [])),
            results=of.kind("result"),
        )


class _ByKind:
    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        for key, content in sorted(found.items()):
            kind, _, rest = key.partition(":")
            self._found.setdefault(kind, {})[rest] = content

    def kind(self, name: str) -> dict[str, Any]:
        return self._found.get(name, {})


def _json(text: str) -> Value:
    return msgspec.json.decode(text)


def _hash(flat: list[str]) -> dict[str, str]:
    return dict(sorted(zip(flat[::2], flat[1::2], strict=True)))


def _of_networks(kinds: Mapping[str, list[str]]) -> dict[tuple[str, str], str]:
    return {(network, name): value for network, flat in kinds.items() for name, value in _hash(flat).items()}
