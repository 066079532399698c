"""Deciding how a host is emptied: what becomes of each guest, what to ask for next, when it is over. Values in, values out.

A drain is advanced by looks: each takes the record and what is so now, and gives the next record and what to ask for. Whoever
writes the record before he asks, and looks again after a crash, asks for the same operations under the same ids.

Must never know how records are read, or operations asked for. Invariant: of what can't be read or asked, nothing is concluded;
it is in the way.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from taskvisor.model.drain import (
    BuildPolicy,
    Drain,
    DrainPhase,
    Errand,
    ErrandKind,
    Fate,
    GuestPolicy,
    Prospect,
)
from taskvisor.model.ids import InstanceId, OperationId, errand_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.records import Host, Instance
from taskvisor.model.states import Mark, Phase, PowerState

TRIES_LIMIT = 3
"""An operation of a drain that fails is asked for so often in all, each time anew."""
START_LIMIT_S = 3600.0
"""So long is tried to start again what a drain has stopped."""
FORGOTTEN_S = 60.0
"""A stop that was noted, and that no operation is known of so long after the host was given back, was never asked for."""
PROSPECTS_LIMIT = 500
"""So many of those in the way are kept in the record."""
BUILD = "instance.build"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is so on the host now, by the records.

    `under_way` are the operations that have not ended there; `errands` those that the drain asked for, ended or not, by id;
    `unreadable` names records of either that could not be read.
    """

    host: Host
    instances: tuple[Instance, ...]
    under_way: tuple[Operation, ...] = ()
    errands: Mapping[OperationId, Operation] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @property
    def is_reachable(self) -> bool:
        return self.host.up and self.host.forced_down is None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look comes to: the record to write, then the guests whose errands to ask for, and operations to cancel."""

    drain: Drain
    asks: tuple[InstanceId, ...] = ()
    cancels: tuple[OperationId, ...] = ()


def prospects_for(guests: GuestPolicy, builds: BuildPolicy, seen: Situation) -> tuple[Prospect, ...]:
    """What would become of each guest and each operation on the host, by name."""
    return _prospects(seen, guests, builds, {})


def advanced(drain: Drain, seen: Situation, now: float, at_once: int) -> Look:
    """The next move of an active drain, with at most `at_once` errands under way."""
    settled = replace(_of_those_here(_with_errands_settled(drain, seen), seen), looked_at=now)
    if drain.phase is DrainPhase.STARTING:
        return _starting(settled, seen, now, at_once)
    if seen.host.disabled_reason is None:  # somebody has enabled the host since: that counts
        return Look(drain=_ended(settled, DrainPhase.OVER, now))
    return _draining(settled, seen, now, at_once)


def undrained(drain: Drain, now: float) -> Drain:
    """The host is given back; what is being asked for ends by itself."""
    return _ended(drain, DrainPhase.OVER, now)


def undrained_with_guests(drain: Drain, now: float) -> Drain:
    """The same, and the guests that it stopped are to be started again."""
    return replace(
        drain, phase=DrainPhase.STARTING, looked_at=now, deadline_at=now + START_LIMIT_S, prospects=(), ended_at=None
    )


def taken_over(drain: Drain, former: Drain | None) -> Drain:
    """A new drain of a host whose last one was never undone: guests off by that one are still to be started one day."""
    if former is None:
        return drain
    given_back = former.phase is DrainPhase.OVER
    return replace(
        drain,
        stopped=former.stopped,
        errands={one: errand for one, errand in former.errands.items() if errand.problem is None},
        former_reason=drain.former_reason if given_back else former.former_reason,
    )


def already_so(drain: Drain, instance_id: InstanceId) -> Drain:
    """The guest was as the errand would have it: it was not the drain that made it so."""
    return replace(
        drain,
        errands=_without(drain.errands, instance_id),
        stopped=tuple(one for one in drain.stopped if one != instance_id),
    )


def refused(drain: Drain, instance_id: InstanceId, problem: str) -> Drain:
    """The guest's errand was not let in: another try, or none any more."""
    errand = drain.errands[instance_id]
    return replace(drain, errands={**drain.errands, instance_id: _tried(drain, instance_id, errand, problem)})


def _draining(drain: Drain, seen: Situation, now: float, at_once: int) -> Look:
    prospects = _prospects(seen, drain.guests, drain.builds, drain.errands)
    in_the_way = tuple(one for one in prospects if one.fate is not Fate.OFF)
    noted = replace(drain, prospects=in_the_way[:PROSPECTS_LIMIT])
    if not in_the_way:
        return Look(drain=_ended(noted, DrainPhase.DRAINED, now))
    if now >= drain.deadline_at:
        return Look(drain=_ended(noted, DrainPhase.PARTIAL, now))
    cancels = tuple(one.id for one in seen.under_way if _is_cancelled(one, drain.builds) and not one.told_to_stop)
    wanted = (one.instance_id for one in in_the_way if one.fate is Fate.STOPS and one.instance_id is not None)
    asking = _with_more(noted, wanted, ErrandKind.STOP, at_once)
    return Look(drain=asking, asks=_unanswered(asking, seen, ErrandKind.STOP), cancels=cancels)


def _starting(drain: Drain, seen: Situation, now: float, at_once: int) -> Look:
    here = {instance.id: instance for instance in seen.instances}
    if now >= drain.deadline_at - START_LIMIT_S + FORGOTTEN_S:
        drain = replace(drain, errands={one: errand for one, errand in drain.errands.items() if _lives(errand, seen)})
    prospects = tuple(_start_prospect(here.get(one), one, drain, seen) for one in drain.stopped)
    noted = replace(drain, prospects=prospects[:PROSPECTS_LIMIT])
    waits = any(one.fate is not Fate.FAILED for one in prospects) or _under_way(noted)
    if not waits or now >= drain.deadline_at:
        return Look(drain=_ended(noted, DrainPhase.OVER, now))
    wanted = (one.instance_id for one in prospects if one.fate is Fate.STARTS and one.instance_id is not None)
    asking = _with_more(noted, wanted, ErrandKind.START, at_once)
    return Look(drain=asking, asks=_unanswered(asking, seen, ErrandKind.START))


def _lives(errand: Errand, seen: Situation) -> bool:
    return errand.kind is ErrandKind.START or errand.operation_id in seen.errands


def _start_prospect(instance: Instance | None, instance_id: InstanceId, drain: Drain, seen: Situation) -> Prospect:
    name = instance_id if instance is None else instance.name
    errand = drain.errands.get(instance_id)
    if errand is not None and errand.problem is not None:
        fate, why = Fate.FAILED, f"was not started, tried {errand.tries} times: {errand.problem}"
    elif instance is None:
        fate, why = Fate.BUSY, "its record can't be read"
    elif not seen.is_reachable:
        fate, why = Fate.UNREACHABLE, "is started once the host is up"
    else:
        fate, why = Fate.STARTS, "is started: a drain had stopped it"
    return Prospect(name=name, fate=fate, why=why, instance_id=instance_id)


def _prospects(
    seen: Situation, guests: GuestPolicy, builds: BuildPolicy, errands: Mapping[InstanceId, Errand]
) -> tuple[Prospect, ...]:
    holders = {one.instance_id: one for one in seen.under_way}
    here = {instance.id for instance in seen.instances}
    found = [_prospect(one, holders.get(one.id), guests, builds, errands.get(one.id), seen) for one in seen.instances]
    found += [_of_operation(one, builds, None, seen) for one in seen.under_way if one.instance_id not in here]
    found += [Prospect(name=name, fate=Fate.BUSY, why="can't be read") for name in seen.unreadable]
    return tuple(sorted(found, key=lambda one: one.name))


def _prospect(
    instance: Instance,
    holder: Operation | None,
    guests: GuestPolicy,
    builds: BuildPolicy,
    errand: Errand | None,
    seen: Situation,
) -> Prospect:
    mine = errand is not None and errand.kind is ErrandKind.STOP
    if holder is not None and not (mine and errand is not None and holder.id == errand.operation_id):
        return _of_operation(holder, builds, instance.id, seen)
    fate, why = _fate_of(instance, guests, errand if mine else None, seen)
    return Prospect(name=instance.name, fate=fate, why=why, instance_id=instance.id)


def _fate_of(instance: Instance, guests: GuestPolicy, errand: Errand | None, seen: Situation) -> tuple[Fate, str]:
    if instance.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
        return Fate.OFF, "is off; its disks stay on the host"
    if not seen.is_reachable:
        return Fate.UNREACHABLE, "can't be reached: the host is down; nothing is concluded about it"
    if errand is not None and errand.problem is not None:
        return Fate.FAILED, f"was not stopped, tried {errand.tries} times: {errand.problem}"
    if guests is GuestPolicy.STOP:
        return Fate.STOPS, "is stopped" if errand is None else f"is being stopped (operation {errand.operation_id})"
    return Fate.STAYS, "stays: no migration; runs on until it is stopped or deleted"


def _of_operation(
    operation: Operation, builds: BuildPolicy, instance_id: InstanceId | None, seen: Situation
) -> Prospect:
    at = f"at {operation.current_step}" if operation.current_step else "ending"
    what = f"operation {operation.id} ({operation.flow}, {operation.phase.value}, {at})"
    if not seen.is_reachable:
        fate, why = Fate.UNREACHABLE, f"{what} can't end: the host is down"
    elif _is_cancelled(operation, builds):
        fate, why = Fate.CANCELS, f"{what} has not begun, and is cancelled"
    else:
        fate, why = Fate.BUSY, f"{what} is waited for"
    return Prospect(name=operation.instance_name, fate=fate, why=why, instance_id=instance_id)


def _is_cancelled(operation: Operation, builds: BuildPolicy) -> bool:
    untouched = all(step.do is Mark.PENDING for step in operation.steps)
    return builds is BuildPolicy.CANCEL and operation.flow == BUILD and untouched and operation.runner is None


def _with_errands_settled(drain: Drain, seen: Situation) -> Drain:
    """What the errands have come to. A stop that was done is remembered; a start that was done is forgotten."""
    stopped, errands = dict.fromkeys(drain.stopped), dict(drain.errands)
    for instance_id, errand in drain.errands.items():
        operation = seen.errands.get(errand.operation_id)
        if operation is None or not operation.phase.settled or errand.problem is not None:
            continue
        if operation.phase is not Phase.SUCCEEDED:
            errands[instance_id] = _tried(drain, instance_id, errand, _problem_of(operation))
            continue
        del errands[instance_id]
        if errand.kind is ErrandKind.STOP:
            stopped[instance_id] = None
        else:
            stopped.pop(instance_id, None)
    return replace(drain, stopped=tuple(stopped), errands=errands)


def _tried(drain: Drain, instance_id: InstanceId, errand: Errand, problem: str) -> Errand:
    if errand.tries >= TRIES_LIMIT:
        return replace(errand, problem=problem)
    tries = errand.tries + 1
    return replace(errand, tries=tries, operation_id=errand_id_for(drain.id, errand.kind, instance_id, tries))


def _problem_of(operation: Operation) -> str:
    return "it was not told" if operation.failure is None else operation.failure.message


def _under_way(drain: Drain) -> int:
    return sum(errand.problem is None for errand in drain.errands.values())


def _with_more(drain: Drain, wanted: Iterable[InstanceId], kind: ErrandKind, at_once: int) -> Drain:
    """As many more errands as there is room for. One that is there, of the same kind, is not begun again."""
    errands, room = dict(drain.errands), at_once - _under_way(drain)
    for instance_id in wanted:
        there = errands.get(instance_id)
        if room <= 0:
            break
        if there is None or (there.kind is not kind and there.problem is not None):
            errands[instance_id] = Errand(kind=kind, operation_id=errand_id_for(drain.id, kind, instance_id, 1))
            room -= 1
    return replace(drain, errands=errands)


def _unanswered(drain: Drain, seen: Situation, kind: ErrandKind) -> tuple[InstanceId, ...]:
    """Whose errand no operation is known of yet: it was never asked for, or nobody knows whether it was. None are asked for
    while the host is down.
    """
    asked = (one for one in drain.errands.items() if one[1].problem is None and one[1].kind is kind)
    return tuple(one for one, errand in asked if seen.is_reachable and errand.operation_id not in seen.errands)


def _of_those_here(drain: Drain, seen: Situation) -> Drain:
    """Without guests that are gone, or were moved. One of which nothing can be read is neither."""
    if seen.unreadable:
        return drain
    here = {instance.id for instance in seen.instances}
    errands = {one: errand for one, errand in drain.errands.items() if one in here}
    return replace(drain, errands=errands, stopped=tuple(one for one in drain.stopped if one in here))


def _ended(drain: Drain, phase: DrainPhase, now: float) -> Drain:
    return replace(drain, phase=phase, ended_at=now, looked_at=now)


def _without(errands: Mapping[InstanceId, Errand], instance_id: InstanceId) -> Mapping[InstanceId, Errand]:
    return {one: errand for one, errand in errands.items() if one != instance_id}
