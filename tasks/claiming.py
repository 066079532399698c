"""What a guest would claim on each of the hosts that have room for it: where it would lie there, if that matters.

What is held on a host is read only of hosts that are looked at, a batch at a time, and only for guests that ask for a place.
"""

from collections.abc import Iterator, Sequence

from tasks.store import Store
from taskvisor.compute.placement import Ask, Verdict
from taskvisor.compute.resources.kind import GuestWants
from taskvisor.compute.resources.things import Held, claim_for, wants_things
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Claim, Host

BATCH = 16
"""Hosts of which it is read at once what is held there."""
LOOKS_LIMIT = 5
"""Places that are tried on one host while others take theirs there."""


def claims_on(store: Store, ask: Ask, candidates: Sequence[Host], instance_id: InstanceId) -> Iterator[Claim | Verdict]:
    """The claim on each candidate in turn, or why the guest has no place there."""
    if ask.wants is None or not wants_things(ask.wants, store.resources):
        yield from (_plain_claim(host, ask, instance_id) for host in candidates)
        return
    for start in range(0, len(candidates), BATCH):
        batch = candidates[start : start + BATCH]
        for host, held in zip(batch, store.hosts.list_held([host.name for host in batch]), strict=True):
            yield from _places_on(store, ask.wants, host, instance_id, held)


def _places_on(
    store: Store, wants: GuestWants, host: Host, instance_id: InstanceId, held: Held
) -> Iterator[Claim | Verdict]:
    """A place on the host, and another one each time that somebody was quicker to take a part of it: there may be more."""
    for _ in range(LOOKS_LIMIT):
        try:
            claim = claim_for(host, instance_id, wants, store.resources, held)
        except DoesNotFit as unfit:
            yield Verdict(host=host.name, rule="place", reason=str(unfit))
            return
        yield claim
        (held,) = store.hosts.list_held([host.name])  # who asks for more could not have that one
        if held.keys().isdisjoint(claim.things):
            return


def _plain_claim(host: Host, ask: Ask, instance_id: InstanceId) -> Claim:
    assert host.inventory is not None  # noqa: S101 - a host that has not reported is no candidate
    return Claim(host=host.name, instance_id=instance_id, resources=ask.resources, limits=host.inventory.limits)
