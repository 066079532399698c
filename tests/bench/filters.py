"""Filters of 100 ports with 20 rules each: time and size of one change, and what of spoofed frames arrives. Also with 1000 ports.

Run as root: `python -m tests.bench.filters [ports] [rules]`. It works in a network namespace of its own.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from net.fabric import LinuxFabric
from net.filters import transactions
from net.filters.port_filters import PortFilters, read_port_listing
from net.filters.port_rules import PortRules, Segment
from net.filters.transactions import Transactions
from net.plan import tap_name_for
from taskvisor.model.ids import HostName, PortId, SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, Member, SecurityGroup, SecurityRule, Surroundings
from tests.fixtures.namespaces import entered_namespace, open_namespace
from tests.net.filters.test_spoofing import FORBIDDEN, LISTENER, SENDER, TIMES, arrived_of
from tests.net.plans import network
from tests.net.wired import wired

ROUNDS = 10
T = TypeVar("T")


def main(ports: int, rules: int) -> None:
    """Each port is in a group of its own with that many rules: the worst case, for ports share the chains of a group."""
    with (
        open_namespace(f"bench-filters-{os.getpid()}") as name,
        entered_namespace(name),
        tempfile.TemporaryDirectory() as directory,
    ):
        bench(Path(directory), ports, rules)
        spoof(Path(directory) / "state")


def bench(directory: Path, ports: int, rules: int) -> None:
    sizes: list[int] = []
    run_script = transactions.run_script

    def counted(script: str) -> None:
        sizes.append(len(script.encode()))
        run_script(script)

    transactions.run_script = counted
    filters = _filters(directory)
    ids = [PortId(f"{number:08x}-0000-4000-8000-000000000000") for number in range(ports)]
    around = _around(ids, rules)
    here = frozenset(ids)
    nics = [_port(number, port_id) for number, port_id in enumerate(ids)]

    def tell(told: Surroundings) -> None:
        filters.ensure_groups(told, here)

    print(f"{ports} ports, {rules} rules each")
    _show("one port more, from none to all", sizes, *_times(filters.ensure_port, nics))
    _show("all groups at once", sizes, *_times(tell, [around]))
    _show("all groups again, nothing to change", sizes, *_times(tell, [around] * ROUNDS))
    _show("one port again, nothing to change", sizes, *_times(filters.ensure_port, nics[:1] * ROUNDS))
    changed = [_with_rule(around, number) for number in range(ROUNDS)]
    _show("one rule of one group", sizes, *_times(tell, changed))
    grown = [replace(changed[-1], group_addresses=_addresses(ids, number)) for number in range(1, ROUNDS + 1)]
    _show("one member more in the group that all name", sizes, *_times(tell, grown))
    taken = [nics[number].tap for number in range(ROUNDS)]
    _show("one port less", sizes, *_times(filters.ensure_port_absent, taken))
    _show("a look by another process", sizes, *_times(lambda _: read_port_listing(), range(ROUNDS)))


def spoof(state_dir: Path) -> None:
    """Frames of each forbidden kind, counted where they were sent and where they arrived, with filters and without."""
    state_dir.parent.chmod(0o755)  # dnsmasq is an unprivileged user
    state_dir.mkdir()
    fabric = LinuxFabric(state_dir)
    fabric.ensure_plugged(LISTENER)
    counts = []
    with wired(LISTENER) as (listener,):
        for nic in (SENDER, replace(SENDER, anti_spoofing=False)):
            fabric.ensure_plugged(nic)
            with wired(nic) as (sender,):
                counts.append(arrived_of(sender.send, listener, FORBIDDEN))
            fabric.ensure_unplugged(nic)
    fabric.ensure_unplugged(LISTENER)
    print(f"\n{'frames that a port may not send':<44}   sent  arrived  arrived without filters")
    for kind in FORBIDDEN:
        print(f"{kind:<44} {TIMES:>6} {counts[0][kind]:>8} {counts[1][kind]:>8}")


def _show(what: str, sizes: list[int], *times_s: float) -> None:
    ordered = sorted(times_s)
    bytes_each = f"{statistics.median(sizes):>8.0f} bytes" if sizes else "     no transaction"
    print(
        f"{what:<44} p50 {statistics.median(ordered) * 1000:8.1f} ms   max {ordered[-1] * 1000:8.1f} ms   {bytes_each}"
    )
    sizes.clear()


def _times(act: Callable[[T], object], each: Iterable[T]) -> list[float]:
    """How many seconds each took."""
    times = []
    for one in each:
        begun = time.perf_counter()
        act(one)
        times.append(time.perf_counter() - begun)
    return times


def _filters(directory: Path) -> PortFilters:
    return PortFilters(Transactions(directory / "lock"), directory / "filters")


def _port(number: int, port_id: PortId) -> PortRules:
    return PortRules(
        tap=tap_name_for(port_id),
        mac=f"fa:16:3e:00:00:{number % 256:02x}",
        addresses=(_address(number),),
        segment=Segment(bridge="brq-bench", mac="02:00:00:00:00:01", zone=7),
        groups=(_group(port_id),),
    )


def _address(number: int) -> str:
    return f"10.9.{number // 250}.{number % 250 + 2}"


def _group(port_id: PortId) -> SecurityGroupId:
    return SecurityGroupId(f"{port_id[:8]}-1111-4000-8000-000000000000")


ALL = SecurityGroupId("ffffffff-1111-4000-8000-000000000000")


def _around(ids: list[PortId], rules: int) -> Surroundings:
    passing = tuple(
        SecurityRule(
            direction=Direction.INGRESS,
            family=IpFamily.V4,
            protocol="tcp",
            first_port=1000 + number,
            last_port=1000 + number,
            remote_group=ALL,
        )
        for number in range(rules)
    )
    members = tuple(
        Member(
            port_id=port_id,
            host=HostName("here"),
            mac=f"fa:16:3e:00:00:{number % 256:02x}",
            addresses=(_address(number),),
            security_groups=(_group(port_id),),
        )
        for number, port_id in enumerate(ids)
    )
    return Surroundings(
        network=network(),
        members=members,
        groups=tuple(SecurityGroup(id=_group(port_id), name=port_id, rules=passing) for port_id in ids),
        group_addresses=_addresses(ids, 0),
    )


def _addresses(ids: list[PortId], more: int) -> dict[SecurityGroupId, tuple[str, ...]]:
    return {ALL: tuple(_address(number) for number in range(len(ids) + more))}


def _with_rule(around: Surroundings, number: int) -> Surroundings:
    """One more rule in the first group, another one each time."""
    first, *rest = around.groups
    more = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4, protocol="udp", first_port=number + 1)
    return replace(around, groups=(replace(first, rules=(*first.rules, more)), *rest))


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] or ["100", "20"])))
