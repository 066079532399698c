"""Hosts as they report themselves: heartbeat, inventory, and what is claimed of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Host, Inventory, Resources
from taskvisor.state.codec import OnUnreadable, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.fleet_view import ANSWERS, ask_about
from taskvisor.state.host_record import aggregates_from, aggregates_of_hosts, host_from, unknown_host
from taskvisor.state.keys import Keys
from taskvisor.state.moved import note_moved
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis


class Hosts:
    """Every host that ever reported. `on_unreadable` is told of what can't be read of one; the others are listed."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable

    def note_alive(self, host: HostName, incarnation: str, *, keep_s: float) -> None:
        """The host's node of that incarnation lives; the note vanishes after `keep_s` of silence."""
        with asking(f"note that host {host} lives"):
            self._client.set(self._keys.alive(host), incarnation, px=int(keep_s * 1000))

    def note_taking(self, host: HostName, incarnation: str, *, keep_s: float) -> None:
        """The host's node of that incarnation takes requests; the note vanishes after `keep_s` of silence."""
        with asking(f"note that host {host} takes requests"):
            self._client.set(self._keys.taking(host), incarnation, px=int(keep_s * 1000))

    def is_known(self, host: HostName) -> bool:
        """Whether the host has ever reported to this store."""
        with asking(f"ask whether host {host} is known"):
            return bool(self._client.sismember(self._keys.hosts, host))

    def note_listening(self, host: HostName, *, hears: bool, keep_s: float) -> None:
        """Whether events of the host's guests are heard; the note vanishes after `keep_s` of silence."""
        with asking(f"note whether events of {host}'s guests are heard"):
            self._client.set(self._keys.listening(host), int(hears), px=int(keep_s * 1000))

    def list_listening(self) -> tuple[tuple[HostName, bool], ...]:
        """Hosts that said lately whether they hear events of their guests, and whether they do, by name."""
        with asking("list the hosts that hear events of their guests"):
            names = sorted(HostName(str(member)) for member in self._client.smembers(self._keys.hosts))
            found = self._client.mget([self._keys.listening(name) for name in names]) if names else []
        return tuple((name, said == "1") for name, said in zip(names, found, strict=True) if said is not None)

    def note_gone(self, host: HostName, incarnation: str) -> None:
        """The host's node of that incarnation has ended; notes of other nodes and of later ones stay."""
        with asking(f"note that host {host} is gone"):
            for key in (self._keys.alive(host), self._keys.taking(host)):
                if self._client.get(key) == incarnation:
                    self._client.delete(key)

    def list_not_taking(self) -> tuple[HostName, ...]:
        """Hosts that have reported at some time and whose node that takes requests is silent, by name."""
        with asking("list hosts that take no requests"):
            names = sorted(HostName(str(member)) for member in self._client.smembers(self._keys.hosts))
            found = self._client.mget([self._keys.taking(name) for name in names]) if names else []
        return tuple(name for name, incarnation in zip(names, found, strict=True) if not incarnation)

    def list_alive(self) -> tuple[tuple[HostName, bool], ...]:
        """Every host that ever reported, and whether its steps node is heard of, by name. Two round trips, and no inventory."""
        with asking("list which hosts live"):
            names = sorted(HostName(str(member)) for member in self._client.smembers(self._keys.hosts))
            found = self._client.mget([self._keys.alive(name) for name in names]) if names else []
        return tuple((name, bool(incarnation)) for name, incarnation in zip(names, found, strict=True))

    def read_incarnation(self, host: HostName) -> str | None:
        """The incarnation of the host's node; None when it has fallen silent."""
        with asking(f"ask whether host {host} lives"):
            found = self._client.get(self._keys.alive(host))
        return str(found) if found else None

    def write_inventory(self, host: HostName, inventory: Inventory) -> Inventory | None:
        """What the host has; returns what it had, None when nothing was known. A host that reports for the first time is known
        from then on.

        One that has what it had is not written again: only the time of its report is.
        """
        key = self._keys.host(host)
        with asking(f"read the inventory of {host}"):
            text = self._client.hget(key, "inventory")
        former = next(decode_each([(f"inventory of {host}", text)], Inventory, self._on_unreadable), None)
        tx = Transaction()
        tx.do("HSET", key, "reported_at", f"{inventory.reported_at:.3f}")
        tx.do("SADD", self._keys.hosts, host)
        if former is None or replace(former, reported_at=inventory.reported_at) != inventory:
            tx.do("HSET", key, "inventory", encode(inventory))
            note_moved(tx, self._keys, host)
        tx.run(self._client, f"write the inventory of {host}")
        return former

    def note_power_synced(self, host: HostName, at: float) -> None:
        """The records of the host's instances followed its hypervisor at that time."""
        with asking(f"note that the power states of {host} were synced"):
            self._client.hset(self._keys.host(host), "power_synced_at", f"{at:.3f}")

    def list_hosts(self) -> tuple[Host, ...]:
        """All of them as they are now, by name: two round trips, however many there are.

        One of which something can't be read has no inventory: nothing is placed on it.
        """
        with asking("list hosts"):
            first = self._client.pipeline(transaction=False)
            first.smembers(self._keys.hosts)
            first.hgetall(self._keys.aggregates)
            members, aggregates = first.execute()
            names = sorted(HostName(str(member)) for member in members)
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                ask_about(pipe, self._keys, name)
            answers = pipe.execute(raise_on_error=False)
        of_hosts = aggregates_of_hosts(aggregates_from(aggregates, self._on_unreadable))
        return tuple(
            host_from(name, answers[ANSWERS * i : ANSWERS * (i + 1)], of_hosts, self._on_unreadable)
            for i, name in enumerate(names)
        )

    def look_up(self, host: HostName) -> Host | None:
        """That one alone, in one round trip; None when no host of that name ever reported."""
        with asking(f"look up host {host}"):
            pipe = self._client.pipeline(transaction=False)
            pipe.sismember(self._keys.hosts, host)
            pipe.hgetall(self._keys.aggregates)
            ask_about(pipe, self._keys, host)
            known, aggregates, *answers = pipe.execute(raise_on_error=False)
            for answer in (known, aggregates):
                if isinstance(answer, Exception):
                    raise answer
        of_hosts = aggregates_of_hosts(aggregates_from(aggregates, self._on_unreadable))
        return host_from(host, answers, of_hosts, self._on_unreadable) if known else None

    def find(self, host: HostName) -> Host:
        """The same; Refused when no host of that name ever reported."""
        found = self.look_up(host)
        if found is None:
            raise unknown_host(host)
        return found

    def list_claims(self, host: HostName) -> tuple[tuple[InstanceId, Resources], ...]:
        """What is claimed on the host, and by which instance."""
        with asking(f"list the claims on {host}"):
            found = self._client.hgetall(self._keys.claims(host))
        return tuple(
            (InstanceId(str(key)), Resources.of_amounts(claimed))
            for key, text in found.items()
            for claimed in decode_each([(f"claim of {key!s}", text)], dict[str, int], self._on_unreadable)
        )

    def list_held(self, hosts: Sequence[HostName]) -> tuple[Mapping[str, InstanceId], ...]:
        """What instances have for themselves on each of these hosts, by the thing's name: one round trip."""
        with asking("list what is held on hosts"):
            pipe = self._client.pipeline(transaction=False)
            for name in hosts:
                pipe.hgetall(self._keys.held(name))
            answers = pipe.execute()
        return tuple({str(thing): InstanceId(str(owner)) for thing, owner in held.items()} for held in answers)
