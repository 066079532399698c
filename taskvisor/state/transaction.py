"""One atomic write under conditions: guards that must hold, then commands that are carried out, or nothing at all.

Redis runs a script whole and alone (https://redis.io/docs/latest/develop/programmability/eval-intro/), so a transaction
is one round trip whatever it holds. Keys are not declared: a single Redis is meant, not a cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from taskvisor.state.connection import asking

if TYPE_CHECKING:
    import redis

Value = str | int | float

SCRIPT = """
local plan = cmsgpack.unpack(ARGV[1])
if plan.once and redis.call('HGET', plan.once[1], 'commit') == plan.once[2] then return {-1, ''} end
local function other_holder(key, mine, mode)
  local held = redis.call('HGETALL', key)
  for index = 1, #held, 2 do
    if held[index] ~= mine and (mode ~= 'shared' or held[index + 1] ~= 'shared') then return held[index] end
  end
  return false
end
local function odd_company(key, mine, host, policy, per_host, most)
  local held, here, others = redis.call('HGETALL', key), 0, 0
  for index = 1, #held, 2 do
    if held[index] ~= mine then
      others = others + 1
      if policy == 'affinity' and held[index + 1] ~= host then return held[index + 1] end
      if held[index + 1] == host then here = here + 1 end
    end
  end
  if others >= most then return 'full' end
  return policy == 'anti-affinity' and here >= per_host and tostring(here) or false
end
local function words_of(text)
  local words = {}
  for word in string.gmatch(text, '%S+') do table.insert(words, word) end
  return words
end
local function place_nics(nics, members, grouped, bound, bound_ports, ...)
  local asked, placed, held = {...}, {}, redis.call('HGETALL', nics)
  for index = 1, #asked, 3 do placed[asked[index]] = true end
  for index = 1, #held, 2 do
    local port, words = held[index], words_of(held[index + 1])
    redis.call('HDEL', members .. words[1], port)
    for number = 2, #words do redis.call('HDEL', grouped .. words[number], port) end
    local floating = not placed[port] and redis.call('HGET', bound_ports, port)
    if floating then
      redis.call('HDEL', bound, floating)
      redis.call('HDEL', bound_ports, port)
    end
  end
  redis.call('DEL', nics)
  for index = 1, #asked, 3 do
    local port, place, member = asked[index], asked[index + 1], asked[index + 2]
    local words = words_of(place)
    redis.call('HSET', nics, port, place)
    redis.call('HSET', members .. words[1], port, member)
    for number = 2, #words do redis.call('HSET', grouped .. words[number], port, words[1] .. ' ' .. member) end
  end
end
local must_lack = {absent = true, sharing = true, gone = true, company = true, unscored = true}
for number, guard in ipairs(plan.guards) do
  local kind, key, name = guard[1], guard[2], guard[3]
  local found
  if kind == 'same' then found = redis.call('GET', key)
  elseif kind == 'sharing' then found = other_holder(key, name, guard[4])
  elseif kind == 'gone' then found = redis.call('EXISTS', key) == 1 and key
  elseif kind == 'company' then found = odd_company(key, name, guard[4], guard[5], guard[6], guard[7])
  elseif kind == 'scored' or kind == 'unscored' then found = redis.call('ZSCORE', key, name)
  else found = redis.call('HGET', key, name) end
  if kind == 'same' and found ~= name then return {number, ''} end
  if kind == 'is' and found ~= guard[4] then return {number, found or ''} end
  if must_lack[kind] and found then return {number, found} end
  if kind == 'vacant' and found and found ~= guard[4] then return {number, found} end
  if kind == 'present' and not found then return {number, ''} end
  if kind == 'scored' and not (found and tonumber(found) <= guard[4]) then return {number, found or ''} end
  if kind == 'room' and tonumber(found or '0') + guard[4] > guard[5] then return {number, found or '0'} end
end
for _, command in ipairs(plan.commands) do
  if command[1] == 'unclaim' then
    local claim = redis.call('HGET', command[2], command[4])
    if claim then
      for name, amount in pairs(cjson.decode(claim)) do redis.call('HINCRBY', command[3], name, 0 - amount) end
      redis.call('HDEL', command[2], command[4])
    end
  elseif command[1] == 'release' then
    local held = redis.call('HGETALL', command[2])
    for index = 1, #held, 2 do
      if held[index + 1] == command[3] then redis.call('HDEL', command[2], held[index]) end
    end
  elseif command[1] == 'free' then
    local address = redis.call('HGET', command[3], command[5])
    if address then
      redis.call('HDEL', command[3], command[5])
      redis.call('HDEL', command[2], address)
      if command[4] ~= '' then redis.call('ZADD', command[4], redis.call('TIME')[1], address) end
    end
  elseif command[1] == 'disown' then
    if redis.call('HGET', command[2], command[3]) == command[4] then redis.call('HDEL', command[2], command[3]) end
  elseif command[1] == 'sum' then
    local sums, claims = {}, redis.call('HGETALL', command[2])
    for index = 2, #claims, 2 do
      for name, amount in pairs(cjson.decode(claims[index])) do sums[name] = (sums[name] or 0) + amount end
    end
    redis.call('DEL', command[3])
    for name, amount in pairs(sums) do redis.call('HSET', command[3], name, string.format('%d', amount)) end
  elseif command[1] == 'nics' then
    place_nics(unpack(command, 2))
  elseif command[1] == 'moved' then
    -- as below: an error must not stop the script half-way
    local last = redis.pcall('LINDEX', command[2], 0)
    if type(last) ~= 'table' and not (last and string.match(last, '^%S+ %S+ %S+') == command[3]) then
      redis.call('LPUSH', command[2], command[3] .. ' ' .. command[4])
      redis.call('LTRIM', command[2], 0, command[5])
    end
  elseif command[1] == 'number' then
    redis.call('ZADD', command[2], redis.call('HINCRBY', command[3], command[4], 1), command[5])
  elseif command[1] == 'blame' then
    local failed = redis.pcall('HINCRBY', command[2], 'failed_builds', 1) -- as `count`
    if type(failed) == 'number' and command[3] > 0 and failed >= command[3] then
      redis.call('HSETNX', command[2], 'disabled', command[4])
    end
  elseif command[1] == 'praise' then
    if redis.call('HDEL', command[2], 'failed_builds') == 1 then
      redis.call('ZADD', command[3], redis.call('HINCRBY', command[4], command[5], 1), command[6])
    end
  elseif command[1] == 'count' then
    redis.pcall('HINCRBY', command[2], command[3], command[4]) -- an error of it must not stop the script half-way
  else
    redis.call(unpack(command))
  end
end
return {0, ''}
"""


@dataclass
class Transaction:
    """Guards and commands, gathered, then run once."""

    guards: list[list[Value]] = field(default_factory=list)
    refusals: list[Callable[[str], Exception]] = field(default_factory=list)
    commands: list[list[Value]] = field(default_factory=list)
    once: tuple[str, str] | None = None

    def only_once(self, key: str, commit_id: str) -> None:
        """If the hash `key` bears this commit id already, the transaction was carried out: doing it again does nothing."""
        self.once = (key, commit_id)

    def require(self, key: str, name: str, value: Value, error: Callable[[str], Exception]) -> None:
        """Field `name` of the hash `key` is exactly `value`; else `error(found)` is raised."""
        self.guards.append(["is", key, name, str(value)])
        self.refusals.append(error)

    def require_absent(self, key: str, name: str, error: Callable[[str], Exception]) -> None:
        """The hash `key` has no field `name`."""
        self.guards.append(["absent", key, name])
        self.refusals.append(error)

    def require_vacant(self, key: str, name: str, owner: str, error: Callable[[str], Exception]) -> None:
        """Field `name` of the hash `key` is not there, or is the owner's."""
        self.guards.append(["vacant", key, name, owner])
        self.refusals.append(error)

    def require_present(self, key: str, name: str, error: Callable[[str], Exception]) -> None:
        """The hash `key` has a field `name`."""
        self.guards.append(["present", key, name])
        self.refusals.append(error)

    def require_empty(self, key: str, error: Callable[[str], Exception]) -> None:
        """The hash `key` has no field at all; else `error` is given the name of one."""
        self.guards.append(["sharing", key, "", "alone"])
        self.refusals.append(error)

    def require_same(self, key: str, value: str, error: Callable[[str], Exception]) -> None:
        """The string `key` is exactly `value`: a record has not changed since it was read."""
        self.guards.append(["same", key, value])
        self.refusals.append(error)

    def require_gone(self, key: str, error: Callable[[str], Exception]) -> None:
        """There is no such key, of whatever type; else `error` is given its name."""
        self.guards.append(["gone", key])
        self.refusals.append(error)

    def require_sharing(self, key: str, holder: str, mode: str, error: Callable[[str], Exception]) -> None:
        """Nobody but `holder` is in the hash `key`; or all who are share it (mode "shared"), and so does the holder."""
        self.guards.append(["sharing", key, holder, mode])
        self.refusals.append(error)

    def require_scored(self, key: str, member: str, at_most: float, error: Callable[[str], Exception]) -> None:
        """The sorted set `key` has that member, with a score of at most `at_most`."""
        self.guards.append(["scored", key, member, at_most])
        self.refusals.append(error)

    def require_unscored(self, key: str, member: str, error: Callable[[str], Exception]) -> None:
        """The sorted set `key` has no such member; else `error` is given its score."""
        self.guards.append(["unscored", key, member])
        self.refusals.append(error)

    def require_room(self, key: str, name: str, amount: int, limit: int, error: Callable[[str], Exception]) -> None:
        """Field `name` of the hash `key` (0 when absent) plus `amount` is at most `limit`."""
        self.guards.append(["room", key, name, amount, limit])
        self.refusals.append(error)

    def require_company(
        self, key: str, member: str, host: str, policy: str, per_host: int, most: int, error: Callable[[str], Exception]
    ) -> None:
        """The hash `key` holds members and the hosts that they are on. Beside `member` there are fewer than `most`, and with it
        on `host` the policy holds: with "affinity" all others are there too, with "anti-affinity" fewer than `per_host` are.
        `error` is given the host where another is, how many are there, or "full".
        """
        self.guards.append(["company", key, member, host, policy, per_host, most])
        self.refusals.append(error)

    def do(self, *command: Value) -> None:
        """A Redis command, or one of ours: unclaim, sum, release, free, disown, nics, moved, number, blame, praise, count."""
        self.commands.append(list(command))

    def run(self, client: "redis.Redis", what: str) -> None:
        """Carry it out. Raises the first broken guard's error; CannotAsk when Redis is silent (it may have been done)."""
        plan = {"guards": self.guards, "commands": self.commands, "once": list(self.once) if self.once else False}
        with asking(what):
            number, found = _script(client)(args=[msgspec.msgpack.encode(plan)])
        if int(number) > 0:
            raise self.refusals[int(number) - 1](str(found))


def _script(client: "redis.Redis") -> "redis.commands.core.Script":
    script = getattr(client, "_taskvisor_transaction", None)
    if script is None:
        script = client.register_script(SCRIPT)
        client._taskvisor_transaction = script  # type: ignore[attr-defined]  # one per client: its SHA is computed once
    return script
