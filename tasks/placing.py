"""Finding a host with room and claiming it, in one motion: a host that filled up meanwhile is passed over for the next.

Rules, weighers and what they said are `taskvisor.compute.placement`'s; here is in which order the store is asked.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tasks.claiming import claims_on
from tasks.store import Store
from taskvisor.compute.placement import Ask, Companions, Placement, Placer, Verdict, no_capacity
from taskvisor.model.errors import DoesNotFit, Refused, Retryable
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.operation import Operation
from taskvisor.model.placement import Explanation
from taskvisor.model.records import Claim, Host
from taskvisor.model.server_group import GroupPolicy, ServerGroup

ROUNDS_LIMIT = 5
"""All hosts are looked at anew so often when each that looked free was full by the time of the claim."""

Claiming = Callable[[Claim, Explanation], Operation]
"""Makes the claim, together with all that depends on it, or raises DoesNotFit."""

TellNone = Callable[[Explanation], None]
"""Is told why no host will do, before NoCapacity is raised."""


def place(
    store: Store,
    placer: Placer,
    ask: Ask,
    instance_id: InstanceId,
    claiming: Claiming,
    *,
    group: ServerGroup | None = None,
    tell_none: TellNone = lambda _: None,
) -> Operation:
    """The operation, once a host is claimed for it. NoCapacity with every host's reasons when none fits; Refused when no host is
    in the zone that is asked for.
    """
    placeless: dict[HostName, Verdict] = {}
    rounds = 0
    while rounds < ROUNDS_LIMIT:
        wish, found = look(store, placer, ask, instance_id, group, without=frozenset(placeless))
        if not found.candidates:
            nowhere = found.also_refusing(placeless.values())
            tell_none(nowhere.explained(None))
            raise no_capacity(wish, nowhere)
        lost: list[Verdict] = []
        for claim in claims_on(store, wish, found.candidates, instance_id):
            if isinstance(claim, Verdict):
                placeless[claim.host] = claim
                continue
            gone = _gone_silent(store, claim.host)
            if gone is not None:
                lost.append(gone)
                continue
            why = found.explained(claim.host, (*placeless.values(), *lost))
            try:
                return claiming(replace(claim, server_group=group), why)
            except DoesNotFit as full:
                remedy = "it was lost to another; ask again"
                lost.append(Verdict(host=claim.host, rule="claim", reason=str(full), remedy=remedy))
                if group is not None and group.policy is GroupPolicy.AFFINITY:
                    break  # the first of the group has just landed somewhere: the others belong there
        rounds += bool(lost)
    raise Retryable("every host that had room was full by the time of the claim; ask again")


def look(
    store: Store,
    placer: Placer,
    ask: Ask,
    instance_id: InstanceId,
    group: ServerGroup | None,
    *,
    without: frozenset[HostName] = frozenset(),
) -> tuple[Ask, Placement]:
    """What is asked of the fleet as it is now, and how every host stands to it, but for some. Nothing is claimed. Refused as in
    `place`.
    """
    wish, hosts = with_company(store, ask, instance_id, group), store.fleet.look()
    _require_zone(wish, hosts)
    return wish, placer.placement_for(wish, [host for host in hosts if host.name not in without] if without else hosts)


def with_company(store: Store, ask: Ask, instance_id: InstanceId, group: ServerGroup | None) -> Ask:
    """The same, with where the other members of its server group are now. Refused when the group is gone."""
    if group is None:
        return ask
    known, members = store.server_groups.find(group.id)
    others = Counter(host for member, host in members.items() if member != instance_id)
    companions = Companions(
        name=known.name,
        policy=known.policy,
        servers_per_host=known.servers_per_host,
        members=tuple(sorted(others.items())),
    )
    return replace(ask, companions=companions)


def _require_zone(ask: Ask, hosts: Sequence[Host]) -> None:
    if ask.zone is None or any(host.zone == ask.zone for host in hosts):
        return
    known = ", ".join(sorted({host.zone for host in hosts if host.zone})) or "none"
    raise Refused(f"availability_zone: {ask.zone!r}: no host is in it; known: {known} (`taskvisor aggregate list`)")


def _gone_silent(store: Store, host: HostName) -> Verdict | None:
    """What speaks against a host that seemed to live and has fallen silent since. Asked of the chosen one only."""
    if store.fleet.hears(host):
        return None
    return Verdict(
        host=host,
        rule="up",
        reason="its worker has not been heard of lately",
        remedy=f"start its worker, or look at its log: `taskvisor worker` on {host}",
    )
