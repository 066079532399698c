"""Noting that what placement knows of a host has changed, in the transaction that changes it: `fleet_view` finds it by that."""

from taskvisor.state.keys import HOSTS, Keys
from taskvisor.state.transaction import Transaction


def note_moved(tx: Transaction, keys: Keys, host: str) -> None:
    """Add to a transaction: the host has changed, later than every other."""
    tx.do("number", keys.hosts_moved, keys.revisions, HOSTS, host)
