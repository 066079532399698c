"""What operators said of a host, as it stands in the host's hash, and what that forbids. Nothing is carried out here."""

from collections.abc import Mapping
from typing import Any, TypedDict

from taskvisor.model.drain import DrainPhase
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.host_mark import HostMark
from taskvisor.model.ids import HostName
from taskvisor.state.codec import OnUnreadable, decode_each
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

UNREADABLE = HostMark(reason="the record of who forced it down, and why, can't be read", by="-", at=0.0)


class OperatorWords(TypedDict):
    """Fields of `taskvisor.model.records.Host`."""

    forced_down: HostMark | None
    draining: DrainPhase | None


def operator_words_in(name: str, fields: Mapping[str, Any], on_unreadable: OnUnreadable) -> OperatorWords:
    """Whether it was forced down, and how far it was emptied. A mark that can't be read holds: it was made for a reason."""
    marked, phase = fields.get("forced_down"), fields.get("draining")
    read = decode_each([(f"forced_down of {name}", marked)], HostMark, on_unreadable)
    return {
        "forced_down": next(read, UNREADABLE if marked else None),
        "draining": DrainPhase(phase) if phase in tuple(DrainPhase) else None,
    }


def require_in_service(tx: Transaction, keys: Keys, host: HostName) -> None:
    """Add to a transaction: DoesNotFit when the host takes no newcomers. Placement has looked before; this look is not late."""
    tx.require_absent(keys.host(host), "disabled", lambda why: DoesNotFit(f"host {host}: it is disabled: {why}"))
    tx.require_absent(keys.host(host), "forced_down", lambda _: DoesNotFit(f"host {host}: it was forced down"))
