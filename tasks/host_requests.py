"""Requests about whole hosts: one is emptied and given back, called dead or alive, forgotten. No host is touched.

A drain goes on by itself after its request is answered (`draining`). Nothing is done to a host that is forced down, nor to its
guests: there is no fencing here.

Invariant: what a caller is told is written together with the record that it is about.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tasks.door import Already
from tasks.draining import Drainer
from tasks.image_requests import Answered
from tasks.request_looks import Answers, looking_again, require_usable_id
from tasks.store import Store
from taskvisor.compute.drain import prospects_for, taken_over, undrained, undrained_with_guests
from taskvisor.model.drain import Drain, DrainPhase, is_disabled_for
from taskvisor.model.errors import Refused
from taskvisor.model.host_mark import HostAct, HostEvent, HostMark
from taskvisor.model.host_operation_spec import (
    DrainSpec,
    HostOperationSpec,
    PlanDrainSpec,
    TakingSpec,
    UndrainSpec,
)
from taskvisor.model.host_views import drain_view, mark_view, prospect_views
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Host
from taskvisor.model.spec import parse_spec

Fields = dict[str, Any]
NAMED_LIMIT = 5
"""So many of what holds a host are named; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class DrainMoved(Answered):
    """The host's drain is to be carried on, at once if it can be."""

    host: HostName


@dataclass(frozen=True, kw_only=True)
class HostOperationsDoor:
    """Lets requests about whole hosts into one store."""

    store: Store
    drainer: Drainer
    now: Callable[[], float]
    answers: Answers

    def plan_drain(self, request_id: OperationId, fields: Fields) -> Already:
        """What would become of everything on the host; nothing is changed. Refused when there is no such host."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(PlanDrainSpec, fields)
        situation = self.drainer.situation_of(HostName(spec.host))
        prospects = prospects_for(spec.guests, spec.builds, situation)
        return Already(result={"host": spec.host, "up": situation.is_reachable, "prospects": prospect_views(prospects)})

    def drain(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host takes no newcomers from now on, and is emptied until the deadline. The same id again is the same drain.

        Refused when there is no such host, or another drain of it is under way.
        """
        require_usable_id(self.store, request_id)
        spec = parse_spec(DrainSpec, fields)
        host = HostName(spec.host)

        def look() -> Already | Answered:
            seen, there = self.store.drains.read(host), self.store.hosts.find(host)
            former = None if seen is None else seen.drain
            if former is not None and former.id == request_id:
                return Already(result=dict(drain_view(former)))
            if former is not None and former.phase.is_active:
                raise Refused(_under_way(former))
            drain = taken_over(self._new(request_id, spec, there), former)
            event = self._event(HostAct.DRAIN, host, request_id, spec.by, spec.reason, "draining")
            answer = self.answers.answer_for(request_id, dict(drain_view(drain)))
            self.store.drain_changes.begin(drain, seen, there.disabled_reason, event, answer)
            return DrainMoved(host=host)

        return looking_again(f"host {host}", look)

    def undrain(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host takes newcomers as before its drain; what is being stopped is stopped still. With `start_guests` the guests
        that are off by the drain are started. Refused when it was disabled by something else.
        """
        require_usable_id(self.store, request_id)
        spec = parse_spec(UndrainSpec, fields)
        host = HostName(spec.host)

        def look() -> Already | Answered:
            seen, there = self.store.drains.read(host), self.store.hosts.find(host)
            if seen is None or _has_nothing_to_undo(seen.drain, spec):
                if there.disabled_reason is not None:
                    raise Refused(
                        f"host: {host!r} is disabled, and by no drain ({there.disabled_reason}); see `taskvisor host show {host}`"
                    )
                return Already(result={"host": host, "phase": DrainPhase.OVER.value, "already": True})
            undo = undrained_with_guests if spec.start_guests else undrained
            drain = undo(seen.drain, self.now())
            event = self._event(HostAct.UNDRAIN, host, request_id, spec.by, "", drain.phase.value)
            left = drain.former_reason if is_disabled_for(seen.drain, there.disabled_reason) else there.disabled_reason
            answer = self.answers.answer_for(request_id, {**drain_view(drain), "disabled_reason": left})
            self.store.drain_changes.give_back(drain, seen, there.disabled_reason, event, answer)
            return DrainMoved(host=host)

        return looking_again(f"host {host}", look)

    def force_down(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host is treated as down by placement and drains, whatever its heartbeat says. Its guests are left alone."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(TakingSpec, fields)
        host, there = HostName(spec.host), self.store.hosts.find(HostName(spec.host))
        if there.forced_down is not None:
            return Already(result={"host": host, "forced_down": mark_view(there.forced_down), "already": True})
        event = self._event(HostAct.FORCE_DOWN, host, request_id, spec.by, spec.reason, "forced down")
        mark = HostMark(reason=event.reason, by=event.by, at=event.at)
        answer = self.answers.answer_for(request_id, {"host": host, "forced_down": mark_view(mark)})
        self.store.host_operations.force_down(host, event, answer)
        return Answered()

    def force_up(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """The host's heartbeat is believed again."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(HostOperationSpec, fields)
        host, there = HostName(spec.host), self.store.hosts.find(HostName(spec.host))
        if there.forced_down is None:
            return Already(result={"host": host, "forced_down": None, "already": True})
        event = self._event(HostAct.FORCE_UP, host, request_id, spec.by, "", "believed again")
        answer = self.answers.answer_for(request_id, {"host": host, "forced_down": None})
        self.store.host_operations.force_up(host, event, answer)
        return Answered()

    def remove(self, request_id: OperationId, fields: Fields) -> Already | Answered:
        """Nothing is kept of the host. Refused, with all that holds it, while it speaks, takes newcomers or is needed."""
        require_usable_id(self.store, request_id)
        spec = parse_spec(TakingSpec, fields)
        host = HostName(spec.host)

        def look() -> Already | Answered:
            traces = self.store.host_operations.read_traces(host)
            result = {"host": host, "state": "removed", "messages": traces.messages}
            if not traces.is_known:
                return Already(result={**result, "messages": 0, "already": True})
            holding = tuple(self._what_holds(host))
            if holding:
                raise Refused(f"host: {host!r} can't be removed: {'; '.join(holding)}")
            event = self._event(HostAct.REMOVE, host, request_id, spec.by, spec.reason, "removed")
            self.store.host_operations.remove(host, event, self.answers.answer_for(request_id, result))
            return Answered()

        return looking_again(f"host {host}", look)

    def _what_holds(self, host: HostName) -> Iterable[str]:
        """All of it, each with what to do."""
        there, traces, catalog = (
            self.store.hosts.find(host),
            self.store.host_operations.read_traces(host),
            self.store.catalog,
        )
        if traces.speaks:
            yield "a node of it speaks; stop its worker"
        if there.disabled_reason is None and there.forced_down is None:
            yield f"it takes new instances; `taskvisor host drain {host}` first, or force-down if it is dead"
        if there.draining is not None and there.draining.is_active:
            yield f"it is being drained; wait, or `taskvisor host undrain {host}`"
        instances = [instance.name for instance in catalog.list_instances(host)]
        if traces.instances or instances:
            yield f"it has {_named(instances, traces.instances, 'instance')}; delete them"
        if traces.claims > traces.instances:
            yield f"it has {traces.claims} claims, {traces.instances} of instances; see `taskvisor verify`"
        if traces.unsettled:
            yield f"{_named(catalog.list_unsettled_on(host), traces.unsettled, 'unsettled operation')} run there"
        stuck = [operation.id for operation in catalog.list_stuck() if operation.host == host]
        if stuck:
            yield f"{_named(stuck, len(stuck), 'stuck operation')} of it; retry them, or delete their instances"
        aggregates = [one.name for one in self.store.aggregates.read().aggregates if host in one.hosts]
        if aggregates:
            yield f"it is in {_named(aggregates, len(aggregates), 'aggregate')}; `taskvisor aggregate remove-host` first"
        images = [image.name for image in catalog.list_images() if image.host == host]
        if images:
            yield f"the files of {_named(images, len(images), 'image')} lie there only; delete them while it lives, or see docs"
        if traces.requests_in_hand:
            yield f"it has {traces.requests_in_hand} requests in hand; beat's sweep takes them back"

    def _new(self, request_id: OperationId, spec: DrainSpec, there: Host) -> Drain:
        now = self.now()
        return Drain(
            id=request_id,
            host=there.name,
            reason=spec.reason,
            by=spec.by,
            began_at=now,
            deadline_at=now + spec.deadline_s,
            looked_at=now,
            guests=spec.guests,
            builds=spec.builds,
            former_reason=there.disabled_reason,
        )

    def _event(
        self, act: HostAct, host: HostName, request_id: OperationId, by: str, reason: str, outcome: str
    ) -> HostEvent:
        return HostEvent(
            act=act, host=host, request_id=request_id, by=by, reason=reason, outcome=outcome, at=self.now()
        )


def _has_nothing_to_undo(drain: Drain, spec: UndrainSpec) -> bool:
    if drain.phase is DrainPhase.OVER:
        return not (spec.start_guests and drain.stopped)
    return drain.phase is DrainPhase.STARTING and spec.start_guests


def _under_way(drain: Drain) -> str:
    if drain.phase is DrainPhase.STARTING:
        return (
            f"host: {drain.host!r}: guests of its last drain are being started; wait, or `taskvisor host undrain {drain.host}`"
            " to leave it at that"
        )
    return (
        f"host: {drain.host!r} is being drained already, by {drain.by} ({drain.reason}; request {drain.id});"
        f" `taskvisor host drain {drain.host} --watch` shows it, `taskvisor host undrain {drain.host}` ends it"
    )


def _named(names: Iterable[str], many: int, what: str) -> str:
    known = sorted(names)
    shown = ", ".join(known[:NAMED_LIMIT]) or "unreadable"
    more = f" and {many - NAMED_LIMIT} more" if many > NAMED_LIMIT else ""
    return f"{many} {what}{'s' if many != 1 else ''} ({shown}{more})"
