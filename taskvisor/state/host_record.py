"""One host's record as it is made of what Redis answers. Pure, but for telling of what can't be read."""

from collections.abc import Iterable, Mapping
from typing import Any

from taskvisor.model.aggregate import Aggregate
from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.ids import HostName
from taskvisor.model.records import Host, Inventory, Resources
from taskvisor.state.codec import OnUnreadable, decode_each
from taskvisor.state.host_words import operator_words_in

AggregatesOf = Mapping[HostName, tuple[Aggregate, ...]]
"""The aggregates that each host is in, by name; a host that is in none is not there."""

ReadInventory = Mapping[str, Inventory | None]
"""Inventories that were read before, by their very text."""

NONE_READ: ReadInventory = {}


def host_from(
    name: HostName,
    answers: list[Any],
    aggregates: AggregatesOf,
    on_unreadable: OnUnreadable,
    read_before: ReadInventory = NONE_READ,
) -> Host:
    """The host; `answers` are its hash, what is used of it, how many claims there are, and whether it lives.

    One of which something can't be read has no inventory: nothing is placed on it.
    """
    broken = [answer for answer in answers if isinstance(answer, Exception)]
    for error in broken:
        on_unreadable(UnreadableRecord(f"host {name} can't be read: {error}"))
    fields, used, claims, alive = ({} if isinstance(answer, Exception) else answer for answer in answers)
    return Host(
        name=name,
        inventory=None if broken else _inventory(name, fields.get("inventory"), on_unreadable, read_before),
        used=Resources.of_amounts({str(kind): int(amount) for kind, amount in used.items()}),
        instances=claims or 0,
        up=bool(alive),
        disabled_reason=fields.get("disabled") or None,
        labels=next(decode_each([(f"labels of {name}", fields.get("labels"))], dict[str, str], on_unreadable), {}),
        failed_builds=_number(fields.get("failed_builds")),
        aggregates=aggregates.get(name, ()),
        reported_at=_time_or_none(fields.get("reported_at")),
        **operator_words_in(name, fields, on_unreadable),
    )


def unknown_host(host: str) -> Refused:
    """The error for a name that no host bears."""
    return Refused(f"host: {host!r}: no host of that name ever reported; see `taskvisor hosts`")


def aggregates_from(answer: Mapping[str, str], on_unreadable: OnUnreadable) -> tuple[Aggregate, ...]:
    """All aggregates, by name, from the hash of them."""
    named = ((f"aggregate {name}", text) for name, text in sorted(answer.items()))
    return tuple(decode_each(named, Aggregate, on_unreadable))


def aggregates_of_hosts(aggregates: Iterable[Aggregate]) -> AggregatesOf:
    """Which of them each host is in."""
    found: dict[HostName, tuple[Aggregate, ...]] = {}
    for aggregate in aggregates:
        for host in aggregate.hosts:
            found[host] = (*found.get(host, ()), aggregate)
    return found


def _inventory(name: HostName, text: str | None, on_unreadable: OnUnreadable, known: ReadInventory) -> Inventory | None:
    if text is not None and text in known:
        return known[text]
    return next(decode_each([(f"inventory of {name}", text)], Inventory, on_unreadable), None)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _time_or_none(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # whoever wrote it was not us: when it reported is not known
