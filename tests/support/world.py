"""All that a fleet holds, hosts and store, as one value that can be compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from taskvisor.flow.step import Flow
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.state.codec import encode
from tests.support.fleet import Fleet, SimulatedHost

if TYPE_CHECKING:
    import redis

TIMES = frozenset({"created_at", "launched_at", "updated_at", "settled_at", "at", "reported_at"})
HELD = (
    "lease:",
    "instance:",
    "history:",
    "instances",
    "names",
    "claims:",
    "held:",
    "addresses:",
    "ports:",
    "addresses6:",
    "ports6:",
    "nics:",
    "members:",
    "grouped:",
    "servers:",
    "floating:",
    "macs",
    "images",
    "image:",
    "volume:",
)
"""The beginnings of all keys (after the prefix) that say that something belongs to somebody."""

Value = Any
"""JSON."""


def read_hosts(fleet: Fleet) -> dict[str, Value]:
    """What is on each host: domains, links, DHCP, directories and images; not the cache, which is the host's own."""
    return {host.name: _read_host(host) for host in fleet.hosts.values()}


def _read_host(host: SimulatedHost) -> Value:
    domains, held = host.ports.hypervisor.list_domains(), host.outsider.list_held()
    return {
        **({"held": held} if held else {}),  # frozen, or with memory saved: as nobody wants a guest left
        "domains": [(domain.instance_id, domain.name, domain.power_state.name) for domain in domains],
        "links": host.neighbour.list_names(),
        **({"disks": host.outsider.list_disks()} if domains else {}),
        "files": sorted(
            str(path.relative_to(host.root))
            for part in (
                "instances",
                "pools",
                "images",
                "published",
                "leases",
                "domains",
                "names",
                "volumes/connected",
                "volumes/users",
            )
            for path in (host.root / part).rglob("*")
        ),
    }


def read_held(fleet: Fleet) -> dict[str, Value]:
    """What the store says belongs to somebody, and what operations and requests are under way; without times."""
    beginnings = (*HELD, "allocating", "ops:", "used:")
    found = {}
    for key, kind, content in sorted(fleet.client.register_script(CONTENTS)(args=["taskvisor:", *beginnings])):
        value = _value(kind, content)
        if not key.startswith("used:"):
            found[key] = value
        elif amounts := {name: amount for name, amount in value.items() if amount != "0"}:
            found[key] = amounts
    return found


CONTENTS = """
local prefix, found = ARGV[1], {}
local function contents_of(key, kind)
  if kind == 'hash' then return redis.call('HGETALL', key) end
  if kind == 'set' then return redis.call('SMEMBERS', key) end
  if kind == 'zset' then return redis.call('ZRANGE', key, 0, -1) end
  if kind == 'list' then return redis.call('LRANGE', key, 0, -1) end
  return redis.call('GET', key)
end
for _, key in ipairs(redis.call('KEYS', prefix .. '*')) do
  local name = string.sub(key, #prefix + 1)
  for number = 2, #ARGV do
    if string.sub(name, 1, #ARGV[number]) == ARGV[number] then
      local kind = redis.call('TYPE', key).ok
      table.insert(found, {name, kind, contents_of(key, kind)})
      break
    end
  end
end
return found
"""
"""In one call, for it is made after each of thousands of deaths: name (without the prefix), type and content of the keys
whose names begin so."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What hosts and store held before a request, and the instance that it was to be about, if it was there."""

    hosts: Value
    held: Value
    instance: Instance | None

    def held_after(self, failed: Operation, flow: Flow) -> Value:
        """What the store holds when a request has been taken back: the same, but for what the flow says of the instance."""
        if self.instance is None:
            return self.held
        record = flow.failed(failed, self.instance, failed.updated_at).instance
        return {**self.held, f"instance:{self.instance.id}": timeless(msgspec.json.decode(encode(record)))}


def world_of(fleet: Fleet, name: str = "web") -> World:
    """The world as it is."""
    instance = fleet.store.catalog.find_instance(name)
    return World(hosts=read_hosts(fleet), held=read_held(fleet), instance=instance)


def _value(kind: str, content: Value) -> Value:
    if kind == "hash":
        fields = dict(zip(content[::2], content[1::2], strict=True))
        return {name: text for name, text in fields.items() if name != "token"}  # it counts tries
    if kind in ("set", "zset"):
        return sorted(content)
    if kind == "list":
        return "kept"  # how it came to be so is no part of what is held
    return timeless(msgspec.json.decode(content))


def timeless(value: Value) -> Value:
    """The same JSON without its times."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if name not in TIMES}
    if isinstance(value, list | tuple):
        return [timeless(part) for part in value]
    return value


def outcome_of(operation: Operation) -> Value:
    """How an operation ended, and what its steps found; not how often they were tried."""
    facts = {step: {**found, "domain": None} if "domain" in found else found for step, found in operation.facts.items()}
    return {
        "phase": operation.phase.value,
        "failure": operation.failure and operation.failure.code,
        "facts": timeless(facts),  # but the domain's: its boot id differs after a second start
        "result": timeless(operation.result),
        "marks": [(step.name, step.do.value, step.undo.value) for step in operation.steps],
    }


def list_all_files(root: Path) -> list[str]:
    """Every file and directory below `root`."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


EVERYTHING = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  table.insert(found, {key, redis.sha1hex(redis.call('DUMP', key))})
end
return found
"""


def read_everything(client: "redis.Redis") -> dict[str, str]:
    """Every key of the database, with a digest of its whole content."""
    return {str(key): str(digest) for key, digest in client.register_script(EVERYTHING)()}
