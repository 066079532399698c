"""The rules of this host's networks in nftables, kept through `nft`, one atomic transaction per change.

A plug that finds them as they are runs no program (net/filters/transactions.py). A rule that somebody removed behind our back is
put back by the next plug.
"""

import msgspec
import structlog

from net.command import Ended, run_command
from net.filters.ruleset import TABLE, Listing, NetworkRules, parse_listing, removal_script_for, script_for
from net.filters.transactions import Transactions
from taskvisor.model.errors import CannotAsk

log = structlog.get_logger(__name__)

TIME_LIMIT_S = 60.0
LISTING_LIMIT_BYTES = 64 << 20  # a network's rules are 7 KB, and there may be 4096


class Firewall:
    """One process's view of the table; make one in each, after fork."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._known = transactions.known("networks", Listing)

    def ensure_network(self, network: NetworkRules) -> None:
        """The table holds the network's rules. CannotAsk when it can't be listed, Retryable when nft fails."""
        with self._transactions.locked():
            held = self._transactions.read(self._known, read_listing)
            if held.value.holds(network):
                return
            after = held.value.with_network(network)
            self._transactions.change(script_for(network), self._known, held, after)
        log.info("network_rules_set", bridge=network.bridge, cidr=network.cidr, nat=network.nat)

    def ensure_network_absent(self, bridge: str) -> None:
        """Nothing of the bridge's network is in the table, and no table when it was the last. Errors as above."""
        with self._transactions.locked():
            held = self._transactions.read(self._known, read_listing)
            if bridge not in held.value.bridges():
                return
            script, after = removal_script_for(bridge, held.value), held.value.without(bridge)
            self._transactions.change(script, self._known, held, after)
        log.info("network_rules_removed", bridge=bridge)

    def read(self) -> Listing:
        """What the table holds. Touches nothing. CannotAsk as above."""
        with self._transactions.locked():
            return self._transactions.read(self._known, read_listing).value


def read_listing() -> Listing:
    """What our table holds; empty when there is none. CannotAsk when nft can't tell."""
    listed = run_command(
        ["nft", "-j", "list", "table", *TABLE.split()],
        time_limit_s=TIME_LIMIT_S,
        output_limit_bytes=LISTING_LIMIT_BYTES,
    )
    if listed.ok:
        return _parsed(listed)
    # "No such table" and "can't say" end alike; so ask in a way whose success means something.
    tables = run_command(["nft", "list", "tables"])
    if tables.ok and f"table {TABLE}" not in tables.stdout.decode(errors="replace").splitlines():
        return Listing()
    raise CannotAsk(f"can't list the nftables table {TABLE}: {listed}")


def _parsed(listed: Ended) -> Listing:
    try:
        return parse_listing(listed.stdout)
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"can't read what nft lists of table {TABLE}: {error}; is something else using it?") from error
