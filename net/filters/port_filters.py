"""The filters of this host's ports in nftables, kept through `nft`, one atomic transaction per change.

What the tables hold is remembered with the kernel's count of changes (net/filters/generation.py). As long as that count is what
it was, nobody changed any rule on this host and a look needs no program; our own change raises it by exactly one, and what it
leaves is known. Anybody else's change, also another process of this worker, costs one listing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from net.command import run_command
from net.filters.chains import Listing, Unwanted, Wanted, parse_listing, removal_script_for, script_for
from net.filters.floating import (
    OUTER,
    floating_of_port_in,
    floating_unwanted_for,
    floating_wanted_for,
    outer_in,
)
from net.filters.generation import read_generation
from net.filters.own_changes import OwnChanges
from net.filters.placement import (
    TABLES,
    bridge_unwanted_for,
    groups_wanted_for,
    is_used,
    port_unwanted_for,
    port_wanted_for,
    unused_for,
)
from net.filters.port_rules import PortRules
from net.filters.remembered import ensure_forgotten, ensure_remembered, read_remembered
from net.filters.states import ensure_bridged_packets_filtered
from net.locks import ensure_locked
from net.plan import tap_name_for
from taskvisor.model.errors import CannotAsk, Retryable
from taskvisor.model.ids import PortId
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

TIME_LIMIT_S = 60.0
LISTING_LIMIT_BYTES = 64 << 20  # 100 ports in groups of 20 rules each are 2 MB
Decision = Callable[[Listing], tuple[Wanted, Unwanted]]
"""What is to be there and what is not, given what is."""


class PortFilters:
    """One process's view of the tables. Make one in each, after fork. `lock_path`: as of `Firewall`, and the same file;
    `directory` is where ports are remembered.

    Every method: CannotAsk when the tables can't be listed, Retryable when nft fails, DoesNotFit when this process may not.
    """

    def __init__(self, lock_path: Path, directory: Path, changes: OwnChanges) -> None:
        self._lock_path = lock_path
        self._directory = directory
        self._changes = changes
        self._known: tuple[int, Listing] | None = None

    def ensure_port(self, port: PortRules) -> None:
        """The port's frames are filtered, by its groups too as far as this host was told of them."""
        ensure_remembered(self._directory, port)
        ensure_bridged_packets_filtered()
        if self._change(lambda listing: (port_wanted_for(port, listing), Unwanted())):
            log.info("port_filters_set", tap=port.tap, groups=len(port.groups))

    def ensure_port_absent(self, tap: str) -> None:
        """The port is not filtered. The tables go with the last one."""
        if self._change(lambda listing: (Wanted(), port_unwanted_for(tap, listing))):
            log.info("port_filters_removed", tap=tap)
        ensure_forgotten(self._directory, tap)

    def ensure_bridge_absent(self, bridge: str) -> None:
        """Nothing of a bridge that no port is on any more is in the tables."""
        self._change(lambda listing: (Wanted(), bridge_unwanted_for(bridge, listing)))

    def ensure_floating(self, around: Surroundings, here: frozenset[PortId]) -> tuple[str, ...]:
        """Floating addresses are translated to those ports of the network that are `here`: these, which are returned."""
        wanted = floating_wanted_for(around, here)
        if wanted.chains:
            ensure_bridged_packets_filtered()
        if self._change(lambda listing: (wanted, floating_unwanted_for(around, here, listing))):
            log.info("floating_addresses_set", network_id=around.network.id)
        return tuple(sorted(key for named in wanted.entries if named.key == OUTER.key for key in named.elements))

    def ensure_floating_absent(self, vif: VifPlan) -> None:
        """No floating address is translated to the NIC."""
        if self._change(lambda listing: (Wanted(), floating_of_port_in(vif, listing))):
            log.info("floating_address_removed", tap=vif.tap)

    def list_outer(self) -> frozenset[str]:
        """The floating addresses that are translated on this host."""
        with self._locked():
            return outer_in(self._read()[1])

    def ensure_groups(self, around: Surroundings, here: frozenset[PortId]) -> None:
        """The ports that are `here` and filtered have the groups, and these the rules and members, that were told.

        So have those whose filters somebody else has removed since they were plugged.
        """
        ports = tuple(self._ports_of(around, here))
        if not ports:
            return
        for port in ports:
            ensure_remembered(self._directory, port)
        ensure_bridged_packets_filtered()

        def decide(listing: Listing) -> tuple[Wanted, Unwanted]:
            wanted = groups_wanted_for(around, ports, listing)
            return wanted, unused_for(listing.with_all(wanted))

        if self._change(decide):
            log.info("groups_set", network_id=around.network.id, ports=len(ports), groups=len(around.groups))

    def list_lacking(self, ports: Iterable[PortRules]) -> frozenset[str]:
        """The TAPs of those ports whose filters are not all there. Touches nothing."""
        with self._locked():
            _, listing = self._read()
        return frozenset(port.tap for port in ports if script_for(port_wanted_for(port, listing), listing))

    def _ports_of(self, around: Surroundings, here: frozenset[PortId]) -> Iterator[PortRules]:
        for member in around.members:
            port = read_remembered(self._directory, tap_name_for(member.port_id)) if member.port_id in here else None
            if port is not None:
                yield replace(port, groups=member.security_groups)

    def _change(self, decide: Decision) -> bool:
        """Make it so; False when it was so."""
        with self._locked():
            generation, listing = self._read()
            wanted, unwanted = decide(listing)
            after = listing.with_all(wanted).without(unwanted)
            script = script_for(wanted, listing) + removal_script_for(unwanted, listing.with_all(wanted))
            if script and not is_used(after):
                script, after = "".join(f"add table {table}\ndelete table {table}\n" for table in TABLES), Listing()
            if not script:
                return False
            self._known = None
            _run_script(script)
            if self._changes.note(generation, read_generation()):
                self._known = generation + 1, after
            return True

    def _read(self) -> tuple[int, Listing]:
        generation = read_generation()  # before the listing: a change in between is then seen the next time
        if self._known is None or not self._changes.alone_since(self._known[0], generation):
            self._known = generation, read_port_listing()
        return generation, self._known[1]

    def _locked(self) -> AbstractContextManager[None]:
        return ensure_locked(self._lock_path, "the firewall of this host")


def read_port_listing() -> Listing:
    """What the tables hold; empty when there are none. CannotAsk when nft can't tell."""
    listing = Listing()
    for table in TABLES:
        listing += _read_table(table)
    return listing


def _read_table(table: str) -> Listing:
    listed = run_command(
        ["nft", "-j", "list", "table", *table.split()],
        time_limit_s=TIME_LIMIT_S,
        output_limit_bytes=LISTING_LIMIT_BYTES,
    )
    if not listed.ok:
        # "No such table" and "can't say" end alike; so ask in a way whose success means something.
        tables = run_command(["nft", "list", "tables"])
        if tables.ok and f"table {table}" not in tables.stdout.decode(errors="replace").splitlines():
            return Listing()
        raise CannotAsk(f"can't list the nftables table {table}: {listed}")
    try:
        return parse_listing(listed.stdout)
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"can't read what nft lists of table {table}: {error}; is something else using it?") from error


def _run_script(script: str) -> None:
    ended = run_command(["nft", "-f", "-"], stdin=script, time_limit_s=TIME_LIMIT_S)
    if not ended.ok:
        raise Retryable(f"can't change the filters of ports in nftables: {ended}")
