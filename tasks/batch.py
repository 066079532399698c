"""Several builds of one kind at once: each is an operation and an instance of its own, placed one after the other in one pass.

All of them or, where `min_count` says so, as many as fit. What is lacking is found before anything is let in: the claims of those
before are counted in for those after. Only a race can then still cost one its room; if too few are left, those that were let in
are cancelled. Ids follow from the request's: the same request again is the same builds.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import structlog

from tasks.door import Admitted, Door
from tasks.placing import look
from tasks.request_looks import require_usable_id
from tasks.resolving import resolve
from taskvisor.compute.placement import Ask, no_capacity
from taskvisor.model.errors import NoCapacity, Refused, Retryable, TaskvisorError
from taskvisor.model.fleet_spec import BatchSpec
from taskvisor.model.fleet_views import BatchView
from taskvisor.model.ids import OPERATION_ID_RULE, HostName, OperationId, instance_id_for
from taskvisor.model.records import Host, Resources
from taskvisor.model.spec import BuildSpec, parse_spec

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LetIn:
    """Builds to send on. Either `result`, which is what their caller is told, or the `error` for which they are cancelled."""

    members: tuple[Admitted, ...]
    result: BatchView | None = None
    error: TaskvisorError | None = None


def member_id_for(request_id: OperationId, number: int) -> OperationId:
    """The id of build number `number`, from 1, of a batch."""
    return OperationId(f"{request_id}-{number}")


def build_many(door: Door, request_id: OperationId, fields: dict[str, Any]) -> LetIn:
    """The builds are let in. NoCapacity when fewer than `min_count` fit, and then none is; Refused as by a build's own door."""
    spec = parse_spec(BatchSpec, fields)
    require_usable_id(door.store, request_id)
    if not OPERATION_ID_RULE.fullmatch(member_id_for(request_id, spec.count)):
        raise Refused(f"task id: {request_id!r}: is too long for the ids of {spec.count} builds; choose a shorter one")
    begun = any(
        door.store.catalog.read_operation(member_id_for(request_id, number)) for number in range(1, spec.count + 1)
    )
    many = spec.count if begun else _fitting(door, spec, request_id)
    members: list[Admitted] = []
    problem: TaskvisorError | None = None
    for number in range(1, many + 1):
        try:
            members.append(_member(door, spec, request_id, number))
        except (NoCapacity, Retryable) as full:
            problem = full
            break
        except Refused as wrong:
            return _taken_back(door, members, wrong)
    if len(members) < spec.least:
        return _taken_back(door, members, problem or NoCapacity("too few builds were let in"))
    return LetIn(members=tuple(members), result=_view(spec, members, problem))


def _member(door: Door, spec: BatchSpec, request_id: OperationId, number: int) -> Admitted:
    answer = door.build(member_id_for(request_id, number), spec.member(number))
    assert isinstance(answer, Admitted)  # noqa: S101 - a build is never done already
    return answer


def _taken_back(door: Door, members: list[Admitted], error: TaskvisorError) -> LetIn:
    """Those that were let in are cancelled, and sent on so that they notice. One that has come to its end by now (its batch's
    message came again after a crash) stays as it is.
    """
    cancelled = tuple(replace(one, operation=door.cancel(one.operation.id)) for one in members)
    log.warning("batch_taken_back", operations=[one.operation.id for one in cancelled], reason=str(error))
    return LetIn(members=cancelled, error=error)


def _fitting(door: Door, spec: BatchSpec, request_id: OperationId) -> int:
    """How many of them fit, each with the claims of those before. NoCapacity when those are too few."""
    resolved = resolve(door.store, parse_spec(BuildSpec, spec.member(1)), door.config_drive)
    first = instance_id_for(member_id_for(request_id, 1))
    ask, found = look(door.store, door.placer, resolved.ask, first, resolved.server_group)
    hosts = {host.name: host for host in door.store.fleet.look()}
    for number in range(spec.count):
        if not found.candidates:
            if number >= spec.least:
                return number
            door.store.explanations.note(request_id, found.explained(None))
            few = no_capacity(ask, found)
            raise NoCapacity(f"{number} of {spec.count} would fit, and {spec.least} are the least; {few}")
        chosen = found.candidates[0].name
        hosts[chosen] = _with_one_more(hosts[chosen], ask.resources)
        ask = _with_company(ask, chosen)
        found = door.placer.placement_for(ask, hosts.values())
    return spec.count


def _with_one_more(host: Host, asked: Resources) -> Host:
    used = dict(host.used.amounts())
    for kind, amount in asked.amounts():
        used[kind] = used.get(kind, 0) + amount
    return replace(host, used=Resources.of_amounts(used), instances=host.instances + 1)


def _with_company(ask: Ask, chosen: HostName) -> Ask:
    if ask.companions is None:
        return ask
    members = Counter(dict(ask.companions.members)) + Counter({chosen: 1})
    return replace(ask, companions=replace(ask.companions, members=tuple(sorted(members.items()))))


def _view(spec: BatchSpec, members: list[Admitted], problem: TaskvisorError | None) -> BatchView:
    fewer = len(members) < spec.count
    return {
        "asked": spec.count,
        "operations": [
            {"operation": one.id, "name": one.instance_name, "id": one.instance_id, "host": one.host}
            for one in (member.operation for member in members)
        ],
        "why_not_all": (str(problem) if problem else "no host has room for more") if fewer else None,
    }
