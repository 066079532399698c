"""The filters of this host's ports in nftables, kept through `nft`, one atomic transaction per change.

What the tables hold is known from the changes that this worker's processes made (net/filters/transactions.py), so a look needs no
program. Anybody else's change of any rule on this host costs one listing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from net.filters.tap_services import served_unwanted_for, served_wanted_for
from net.filters.transactions import Transactions
from net.plan import tap_name_for
from net.services.site import ON_TAPS_KINDS
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import PortId
from taskvisor.model.network import Surroundings
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

LISTING_TIME_LIMIT_S = 300.0
"""nft takes seconds for 1000 ports with 20 rules each, and minutes on a host that is busy tenfold."""
LISTING_LIMIT_BYTES = 256 << 20  # 1000 ports in groups of 20 rules each are 20 MB
Decision = Callable[[Listing], tuple[Wanted, Unwanted]]
"""What is to be there and what is not, given what is."""


class PortFilters:
    """One process's view of the tables. Make one in each, after fork. `directory` is where ports are remembered.

    Every method: CannotAsk when the tables can't be listed, Retryable when nft fails, DoesNotFit when this process may not.
    """

    def __init__(self, transactions: Transactions, directory: Path) -> None:
        self._transactions = transactions
        self._directory = directory
        self._known = transactions.known("ports", Listing)

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

    def ensure_tap_served(self, vif: VifPlan) -> None:
        """What the NIC's guest asks its network's server for gets there; of effect where a TAP is a link of its own."""
        wanted = served_wanted_for(vif)
        if wanted.chains:
            self._change(lambda _: (wanted, Unwanted()))

    def ensure_gone(self, vif: VifPlan) -> frozenset[str]:
        """The NIC, whose device is gone, is not filtered, no floating address is translated to it, and nothing leads from it to a
        server. The floating addresses that still are on this host are returned.
        """

        def decide(listing: Listing) -> tuple[Wanted, Unwanted]:
            unwanted = floating_of_port_in(vif, listing)
            if vif.kind in ON_TAPS_KINDS:
                unwanted |= served_unwanted_for(vif, listing.without(unwanted))
            return Wanted(), unwanted | port_unwanted_for(vif.tap, listing.without(unwanted))

        if self._change(decide):
            log.info("port_filters_removed", tap=vif.tap)
        ensure_forgotten(self._directory, vif.tap)
        return self.list_outer()

    def ensure_bridge_absent(self, bridge: str) -> None:
        """Nothing of a bridge that no port is on any more is in the tables."""
        self._change(lambda listing: (Wanted(), bridge_unwanted_for(bridge, listing)))

    def ensure_floating(self, around: Surroundings, here: frozenset[PortId]) -> Mapping[str, str]:
        """Floating addresses are translated to those ports of the network that are `here`: these, to their own addresses."""
        wanted = floating_wanted_for(around, here)
        if wanted.chains:
            ensure_bridged_packets_filtered()
        if self._change(lambda listing: (wanted, floating_unwanted_for(around, here, listing))):
            log.info("floating_addresses_set", network_id=around.network.id)
        return {
            key: value for named in wanted.entries if named.key == OUTER.key for key, value in named.elements.items()
        }

    def list_outer(self) -> frozenset[str]:
        """The floating addresses that are translated on this host."""
        return outer_in(self.read())

    def ensure_groups(self, around: Surroundings, here: frozenset[PortId]) -> tuple[PortRules, ...]:
        """The ports that are `here` and filtered have the groups, and these the rules and members, that were told. Those ports.

        So have those whose filters somebody else has removed since they were plugged.
        """
        ports = tuple(self._ports_of(around, here))
        if not ports:
            return ()
        for port in ports:
            ensure_remembered(self._directory, port)
        ensure_bridged_packets_filtered()

        def decide(listing: Listing) -> tuple[Wanted, Unwanted]:
            wanted = groups_wanted_for(around, ports, listing)
            return wanted, unused_for(listing.with_all(wanted))

        if self._change(decide):
            log.info("groups_set", network_id=around.network.id, ports=len(ports), groups=len(around.groups))
        return ports

    def list_lacking(self, ports: Iterable[PortRules]) -> frozenset[str]:
        """The TAPs of those ports whose filters are not all there. Touches nothing."""
        listing = self.read()
        return frozenset(port.tap for port in ports if script_for(port_wanted_for(port, listing), listing))

    def read(self) -> Listing:
        """What the tables hold. Touches nothing."""
        with self._transactions.locked():
            return self._transactions.read(self._known, read_port_listing).value

    def find_remembered(self, tap: str) -> PortRules | None:
        """What the filters of the port with that TAP follow from; None when it was never filtered. Touches nothing."""
        return read_remembered(self._directory, tap)

    def _ports_of(self, around: Surroundings, here: frozenset[PortId]) -> Iterator[PortRules]:
        for member in around.members:
            port = read_remembered(self._directory, tap_name_for(member.port_id)) if member.port_id in here else None
            if port is not None:
                yield replace(port, groups=member.security_groups)

    def _change(self, decide: Decision) -> bool:
        """Make it so; False when it was so."""
        with self._transactions.locked():
            held = self._transactions.read(self._known, read_port_listing)
            wanted, unwanted = decide(held.value)
            with_all = held.value.with_all(wanted)
            after = with_all.without(unwanted)
            script = script_for(wanted, held.value) + removal_script_for(unwanted, with_all)
            if script and not is_used(after):
                script, after = "".join(f"add table {table}\ndelete table {table}\n" for table in TABLES), Listing()
            if script:
                self._transactions.change(script, self._known, held, after)
            return bool(script)


def read_port_listing() -> Listing:
    """What the tables hold; empty when there are none. CannotAsk when nft can't tell."""
    listing = Listing()
    for table in TABLES:
        listing += _read_table(table)
    return listing


def _read_table(table: str) -> Listing:
    listed = run_command(
        ["nft", "-j", "list", "table", *table.split()],
        time_limit_s=LISTING_TIME_LIMIT_S,
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
