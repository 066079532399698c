"""All hosts, as one process last saw them, brought up to date at each look: what a placement costs follows what has changed
since, not how many hosts there are.

Each write that changes what placement knows of a host (its claims, inventory, labels, whether it is enabled, failed builds)
numbers the host anew in `hosts:moved`, in that very transaction, so one question finds all that moved. Heartbeats expire by
themselves and are not numbered: they are looked at once a second, and who is about to claim on a host asks after that host alone.
A writer that numbers nothing (an older version, a hand) is noticed within REREAD_S, for every record is read anew that often.

Invariant: nothing is promised by what is seen here. Room is guarded where the claim is made; a late look costs a try.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from taskvisor.model.ids import HostName
from taskvisor.model.records import Host, Inventory
from taskvisor.state.codec import OnUnreadable, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.host_record import AggregatesOf, aggregates_from, aggregates_of_hosts, host_from
from taskvisor.state.keys import AGGREGATES, HOSTS, Keys

if TYPE_CHECKING:
    import redis
    from redis.client import Pipeline

ALIVE_S = 1.0
"""Heartbeats are looked at so often. They last many times as long."""
REREAD_S = 60.0
"""No host's record is believed for longer, whether it was numbered anew or not."""
REREAD_AT_ONCE = 100
"""So many of the oldest are read anew with one look."""
ANSWERS = 4
"""To what is asked about one host."""
MOVED_AT_ONCE = 50
"""Up to so many hosts that moved are read in the very question which they are: one round trip, and some 100 µs of Redis' time."""

WHAT_MOVED = """
local moved = redis.call('ZRANGE', KEYS[2], '(' .. ARGV[1], '+inf', 'BYSCORE')
local told = {}
if #moved <= tonumber(ARGV[2]) then
  for index, name in ipairs(moved) do
    told[index] = {redis.pcall('HGETALL', ARGV[3] .. name), redis.pcall('HGETALL', ARGV[4] .. name),
      redis.pcall('HLEN', ARGV[5] .. name), redis.pcall('EXISTS', ARGV[6] .. name)}
  end
end
local revisions = redis.call('HMGET', KEYS[1], ARGV[7], ARGV[8])
return {revisions[1] or '0', revisions[2] or '0', redis.call('SCARD', KEYS[3]), moved, told}
"""
"""The revisions, how many hosts there are, which of them moved since one, and of few of them all that is asked about a host."""


class FleetView:
    """One per process; safe in threads. `on_unreadable` is told of what can't be read of a host; the others are there."""

    def __init__(
        self,
        client: "redis.Redis",
        keys: Keys,
        on_unreadable: OnUnreadable = log_unreadable,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._clock = clock
        self._lock = Lock()
        self._what_moved = client.register_script(WHAT_MOVED)
        self._looked_at = float("inf")
        self._forget()

    def look(self) -> tuple[Host, ...]:
        """All hosts by name: one round trip where few have moved, two where heartbeats are looked at too. A host that has not
        changed is the very object of the look before. CannotAsk when Redis is silent.
        """
        with self._lock, asking("look at the fleet"):
            self._looked_at = self._clock()
            revision, names = self._ask_what_moved()
            self._read(names)
            self._revision = revision  # last of all: what a look that failed did not read is the next one's to read
            return tuple(self._hosts.values())

    def hears(self, name: HostName) -> bool:
        """Whether the host lives: as the latest look heard it, if that asked; else asked now. CannotAsk when Redis is silent."""
        with self._lock, asking(f"ask whether host {name} lives"):
            heard_at = max(self._alive_at, self._read_at.get(name, self._alive_at))
            if name in self._hosts and heard_at >= self._looked_at:
                return self._hosts[name].up
            return bool(self._client.exists(self._keys.alive(name)))

    def _forget(self) -> None:
        self._hosts: dict[HostName, Host] = {}
        self._texts: dict[HostName, tuple[str, Inventory | None]] = {}
        self._read_at: dict[HostName, float] = {}  # the oldest first
        self._aggregates: AggregatesOf = {}
        self._revision = 0
        self._aggregates_revision = -1
        self._alive_at = float("-inf")

    def _ask_what_moved(self) -> tuple[int, set[HostName]]:
        """The revision that this look brings, and the hosts to read; what moved is read already where it is little. Numbers that
        go back are another store's, or an older copy's: all is forgotten then.
        """
        keys = self._keys
        parts = (keys.host(""), keys.used(""), keys.claims(""), keys.alive(""), HOSTS, AGGREGATES)
        said = self._what_moved(
            keys=[keys.revisions, keys.hosts_moved, keys.hosts], args=[self._revision, MOVED_AT_ONCE, *parts]
        )
        revision, aggregates_revision, many, moved, told = int(said[0]), int(said[1]), int(said[2]), said[3], said[4]
        if revision < self._revision or aggregates_revision < self._aggregates_revision:
            self._forget()
            return self._ask_what_moved()
        wanted = {HostName(str(name)) for name in moved}
        if many != len(self._hosts) or not wanted <= self._hosts.keys():
            there = self._ask_who_is_there()
            wanted = wanted & there | there - self._hosts.keys()
        if aggregates_revision != self._aggregates_revision:
            self._read_aggregates(aggregates_revision)
        return revision, (wanted | self._long_unread()) - self._note_all(moved, told)

    def _note_all(self, moved: list[str], told: list[list[Any]]) -> set[HostName]:
        """Bring those up to date that were known before and told of; returns which."""
        now, noted = self._clock(), set()
        for name, answers in zip(map(HostName, moved), told, strict=False):
            if name in self._hosts:
                hashes = [_pairs(answer) for answer in answers[:2]]
                self._note(name, [*hashes, *answers[2:]], now)
                noted.add(name)
        return noted

    def _ask_who_is_there(self) -> set[HostName]:
        """Every host that has ever reported; what is gone is known no more."""
        there = {HostName(str(name)) for name in self._client.smembers(self._keys.hosts)}
        for name in self._hosts.keys() - there:
            for known in (self._hosts, self._texts, self._read_at):
                cast("dict[HostName, object]", known).pop(name, None)
        return there

    def _long_unread(self) -> set[HostName]:
        before = self._clock() - REREAD_S
        oldest = (name for name, _ in zip(self._read_at, range(REREAD_AT_ONCE), strict=False))
        return {name for name in oldest if self._read_at[name] < before}

    def _read_aggregates(self, revision: int) -> None:
        found = aggregates_from(
            cast("dict[str, str]", self._client.hgetall(self._keys.aggregates)), self._on_unreadable
        )
        self._aggregates, self._aggregates_revision = aggregates_of_hosts(found), revision
        for name, host in self._hosts.items():
            if host.aggregates != self._aggregates.get(name, ()):
                self._hosts[name] = replace(host, aggregates=self._aggregates.get(name, ()))

    def _read(self, names: set[HostName]) -> None:
        now, asked = self._clock(), sorted(names)
        beats = now - self._alive_at >= ALIVE_S
        others = [name for name in self._hosts if name not in names] if beats else []
        if not asked and not others:
            return
        pipe = self._client.pipeline(transaction=False)
        for name in asked:
            ask_about(pipe, self._keys, name)
        if others:
            pipe.mget([self._keys.alive(name) for name in others])
        answers = pipe.execute(raise_on_error=False)
        new = names - self._hosts.keys()
        for number, name in enumerate(asked):
            self._note(name, answers[ANSWERS * number : ANSWERS * (number + 1)], now)
        if new:
            self._hosts = dict(sorted(self._hosts.items()))
        if others and not isinstance(answers[-1], Exception):
            self._note_beats(zip(others, answers[-1], strict=True))
        if beats:
            self._alive_at = now

    def _note(self, name: HostName, answers: list[Any], now: float) -> None:
        """Bring one host up to date. A text that was read before is not parsed again."""
        fields = answers[0] if isinstance(answers[0], dict) else {}
        known = dict([self._texts[name]]) if name in self._texts else {}
        host = host_from(name, answers, self._aggregates, self._on_unreadable, known)
        if host.inventory is not None:
            self._texts[name] = (fields["inventory"], host.inventory)
        self._read_at.pop(name, None)
        self._read_at[name] = now
        if self._hosts.get(name) != host:
            self._hosts[name] = host

    def _note_beats(self, beats: Iterable[tuple[HostName, object]]) -> None:
        for name, incarnation in beats:
            if self._hosts[name].up != bool(incarnation):
                self._hosts[name] = replace(self._hosts[name], up=bool(incarnation))


def _pairs(answer: Any) -> Any:
    """A hash as a script returns it: names and values in turn. An error stays one."""
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer


def ask_about(pipe: "Pipeline", keys: Keys, name: HostName) -> None:
    """Put the questions about one host into a pipeline, in the order in which `host_from` takes the answers."""
    pipe.hgetall(keys.host(name))
    pipe.hgetall(keys.used(name))
    pipe.hlen(keys.claims(name))
    pipe.exists(keys.alive(name))
