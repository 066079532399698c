"""A simulated fleet's store lost and written anew, as `taskvisor rebuild --from-hosts` does it, but for the asking."""

from collections.abc import Collection, Mapping

import msgspec

from tasks.holdings import holdings_of
from taskvisor.compute.rebuild import NOTHING_LEFT_OUT, LeftOut, rebuild_for
from taskvisor.model.holdings import HostHoldings
from taskvisor.model.rebuilding import Rebuild
from taskvisor.state.rebuilding import Rebuilding
from taskvisor.state.writing import Writer
from tests.support.fleet import KEYS, Fleet

PASSING = (
    "op:",
    "ops",
    "lease:",
    "events",
    "counters",
    "progress:",
    "closed",
    "schema",
    "freed:",
    "next:",
    "next6:",
    "revisions",
    "hosts:moved",
    "history:",
    "host:",
    "alive:",
    "allocating",
)
"""Keys of what is not read back: operations and their history, the order of addresses, and what hosts report themselves."""


def ticked(fleet: Fleet) -> None:
    """Every host has looked at its networks, its power states and its copies of records."""
    for host in fleet.hosts.values():
        host.plugs.check()
        host.report.sync_power_states()
        host.keeper.keep()


def told_by(fleet: Fleet, hosts: Collection[str] | None = None) -> list[HostHoldings]:
    """What the hosts tell, as it comes over the wire."""
    asked = [host for host in fleet.hosts.values() if hosts is None or host.name in hosts]
    tellings = [
        msgspec.json.encode(holdings_of(host.ports, fleet.store.resources, host.name, fleet.clock.now()))
        for host in asked
    ]
    return [msgspec.json.decode(telling, type=HostHoldings) for telling in tellings]


def rebuilding_of(fleet: Fleet) -> Rebuilding:
    writer = Writer(keys=KEYS, operation_keep_s=3600, events_kept=1000, outcome_for=lambda *_: None)
    return Rebuilding(fleet.client, writer)


def decided(fleet: Fleet, hosts: Collection[str] | None = None, left_out: LeftOut = NOTHING_LEFT_OUT) -> Rebuild:
    """What would be written by what these hosts tell, or all."""
    present = rebuilding_of(fleet).read_present(fleet.clock.now())
    return rebuild_for(told_by(fleet, hosts), present, left_out)


def rebuilt(fleet: Fleet, hosts: Collection[str] | None = None, left_out: LeftOut = NOTHING_LEFT_OUT) -> Rebuild:
    """The store has what these hosts tell, or all."""
    found = decided(fleet, hosts, left_out)
    assert found.conflicts == ()
    rebuilding_of(fleet).write(found, fleet.clock.now())
    for host in fleet.hosts.values():
        host.report.track()
    return found


def flushed(fleet: Fleet) -> None:
    """Redis has lost everything. Hosts report themselves again, as their nodes do by and by."""
    fleet.client.flushall()
    for host in fleet.hosts.values():
        fleet.note_alive(host.name)
        host.report.track()


def lasting_keys(fleet: Fleet) -> Mapping[str, object]:
    """All that is in the store and is to be read back, key by key."""
    found = {}
    for name in fleet.client.scan_iter(f"{KEYS.prefix}*"):
        key = str(name).removeprefix(KEYS.prefix)
        if not key.startswith(PASSING):
            found[key] = _content(fleet, str(name))
    return found


def _content(fleet: Fleet, name: str) -> object:
    client = fleet.client
    match client.type(name):
        case "string":
            return client.get(name)
        case "hash":
            return dict(client.hgetall(name))
        case "set":
            return set(client.smembers(name))
        case kind:
            raise AssertionError(f"{name} is a {kind!s}: is it to be read back?")
