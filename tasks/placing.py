"""Finding a host with room and claiming it, in one motion: a host that filled up meanwhile is passed over for the next."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from tasks.claiming import claims_on
from tasks.store import Store
from taskvisor.compute.placement import Ask, Verdict, no_capacity, placement_for
from taskvisor.model.errors import DoesNotFit, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim

ROUNDS_LIMIT = 5
"""All hosts are looked at anew so often when each that looked free was full by the time of the claim."""

Table = tuple[Mapping[str, str], ...]
"""What every rule said against every host, as it is kept with the operation."""

Claiming = Callable[[Claim, Table], Operation]
"""Makes the claim, together with all that depends on it, or raises DoesNotFit."""


def place(store: Store, ask: Ask, instance_id: InstanceId, claiming: Claiming) -> Operation:
    """The operation, once a host is claimed for it. NoCapacity with every host's reasons when none fits."""
    for _ in range(ROUNDS_LIMIT):
        found = placement_for(ask, store.hosts.list_hosts())
        if not found.candidates:
            raise no_capacity(ask, found.verdicts)
        lost: list[Verdict] = []
        placeless: list[Verdict] = []
        for claim in claims_on(store, ask, found.candidates, instance_id):
            if isinstance(claim, Verdict):
                placeless.append(claim)
                continue
            try:
                return claiming(claim, _table((*found.verdicts, *placeless, *lost)))
            except DoesNotFit as full:
                lost.append(Verdict(host=claim.host, rule="claim", reason=str(full)))
        if not lost:
            raise no_capacity(ask, (*found.verdicts, *placeless))
    raise Retryable("every host that had room was full by the time of the claim; ask again")


def _table(verdicts: tuple[Verdict, ...]) -> Table:
    return tuple(asdict(verdict) for verdict in verdicts)
