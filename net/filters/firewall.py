"""The rules of this host's networks in nftables, kept through `nft`, one atomic transaction per change.

The hot path asks the kernel for its change count and nothing else. Trade-off: each process lists the table once per
network, and once more whenever anybody changed any nftables rule on the host (5 ms); in return a rule that somebody
removed behind our back is put back by the next plug, and no file claims that it is there.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import structlog

from net.command import Ended, run_command
from net.filters.generation import read_generation
from net.filters.own_changes import OwnChanges
from net.filters.ruleset import TABLE, Listing, NetworkRules, parse_listing, removal_script_for, script_for
from net.locks import ensure_locked
from taskvisor.model.errors import CannotAsk, Retryable

log = structlog.get_logger(__name__)


class Firewall:
    """One process's view of the table. What it remembers is per process; make one in each, after fork.

    `lock_path` is a file that every process of this host's worker agrees on: listing and changing must not interleave,
    or the removal of the last network would take a network that was just added with it.
    """

    def __init__(self, lock_path: Path, changes: OwnChanges | None = None) -> None:
        self._lock_path = lock_path
        self._changes = changes or OwnChanges()
        self._seen: dict[NetworkRules, int] = {}  # bounded by the networks that have ports on this host

    def ensure_network(self, network: NetworkRules) -> None:
        """The table holds the network's rules. CannotAsk when it can't be listed, Retryable when nft fails."""
        if self._is_as_seen(network):
            return
        with self._locked():
            generation = read_generation()  # before the listing: a change in between is then seen the next time
            if read_listing().holds(network):
                self._seen[network] = generation
                return
            self._run(script_for(network))
            log.info("network_rules_set", bridge=network.bridge, cidr=network.cidr, nat=network.nat)

    def ensure_network_absent(self, bridge: str) -> None:
        """Nothing of the bridge's network is in the table, and no table when it was the last. Errors as above."""
        self._seen = {network: seen for network, seen in self._seen.items() if network.bridge != bridge}
        with self._locked():
            listing = read_listing()
            if bridge in listing.bridges():
                self._run(removal_script_for(bridge, listing))
                log.info("network_rules_removed", bridge=bridge)

    def _is_as_seen(self, network: NetworkRules) -> bool:
        seen = self._seen.get(network)
        return seen is not None and self._changes.alone_since(seen, read_generation())

    def _run(self, script: str) -> None:
        before = read_generation()
        _run_script(script)
        self._changes.note(before, read_generation())

    def _locked(self) -> AbstractContextManager[None]:
        return ensure_locked(self._lock_path, "the firewall of this host")


def read_listing() -> Listing:
    """What our table holds; empty when there is none. CannotAsk when nft can't tell."""
    listed = run_command(["nft", "-j", "list", "table", *TABLE.split()])
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


def _run_script(script: str) -> None:
    ended = run_command(["nft", "-f", "-"], stdin=script)
    if not ended.ok:
        raise Retryable(f"can't change the nftables table {TABLE}: {ended}")
