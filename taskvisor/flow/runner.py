"""The one place that orders effect and record: load, judge, write STARTED, do, write DONE with what was found.

Invariant: no step runs unless this process holds the instance's lock on this host *and* its STARTED is in the journal
under a fresh fencing token. Whoever is refused by the store lets go at once: another runner has taken over.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec
import structlog

from taskvisor.flow import transitions
from taskvisor.flow.ports import Clock, Exclusion, Journal, Ports
from taskvisor.flow.step import Flow, Flows, Settlement, Step, StepContext, fault_of
from taskvisor.flow.transitions import Verdict
from taskvisor.model.change import Change, LeaseMove, Loaded
from taskvisor.model.errors import Cancelled, CannotAsk, Fenced, Retryable, StoreConflict
from taskvisor.model.ids import OperationId
from taskvisor.model.network import Port
from taskvisor.model.operation import Facts, Operation, Runner
from taskvisor.model.records import Instance
from taskvisor.model.states import Direction, Phase

log = structlog.get_logger(__name__)

RELOADS_LIMIT = 8
COMMIT_PATIENCE_S = 30.0
"""A write that cannot reach the store is repeated for so long: a restart of Redis must not cost a finished step."""
LETTING_GO_S = 2.0
"""A message waits so long for who holds the instance and runs no step of its operation: a late double that is being judged,
or an operation whose end is written and who is about to let go."""
LOOK_AGAIN_S = 0.01
PROGRESS_EVERY_S = 0.5
PROGRESS_PAUSE_S = 30.0


class Onward(StrEnum):
    """What the caller must do when a message has been dealt with."""

    CONTINUE = "continue"  # let the chain send the next step
    STOP = "stop"  # nothing: it has ended, or somebody else carries it on
    SEND = "send"  # send `Next.operation` on from where its journal says it is, at its `not_before`


class Dropped(StrEnum):
    """Why a message was let go before its operation was looked at."""

    UNKNOWN_OPERATION = "unknown_operation"
    FOREIGN_STEP = "foreign_step"  # its operation has no such step
    TWIN_RUNNING = "twin_running"  # the instance's lock is held, by the same step mostly, whose message came twice


@dataclass(frozen=True, kw_only=True)
class Next:
    """`operation` is to be sent on. For those who count and tell: `ended` has just ended, `error` is why the step did not,
    `dropped` is why the message was not even judged, `gone` are ports that the instance has no more.
    """

    onward: Onward
    operation: Operation | None = None
    ended: Operation | None = None
    error: Exception | None = None
    dropped: Dropped | None = None
    gone: tuple[Port, ...] = ()


STOP = Next(onward=Onward.STOP)


@dataclass(frozen=True, kw_only=True)
class StepMessage:
    """All that a message says: which step of which operation, which way. The journal says the rest."""

    operation_id: OperationId
    step: str
    direction: Direction


class StepRunner:
    """Runs steps in one process. `time_up` are the exceptions by which this process is told that a step takes too long."""

    def __init__(
        self,
        *,
        flows: Flows,
        journal: Journal,
        ports: Ports,
        exclusion: Exclusion,
        runner: Runner,
        time_up: tuple[type[Exception], ...] = (),
    ) -> None:
        self._flows = flows
        self._journal = journal
        self._ports = ports
        self._exclusion = exclusion
        self._runner = runner
        self._time_up = time_up

    def run(self, message: StepMessage) -> Next:
        """Deal with one message, however late, doubled or out of order it is."""
        deadline = self._ports.clock.now() + LETTING_GO_S
        while True:
            loaded = self._journal.load(message.operation_id)
            if loaded is None:
                log.warning("message_for_unknown_operation_dropped", op=message.operation_id, step=message.step)
                return Next(onward=Onward.STOP, dropped=Dropped.UNKNOWN_OPERATION)
            with self._exclusion.hold(loaded.operation.instance_id) as alone:
                if alone:
                    return self._until_settled_with_store(message, loaded)
            if loaded.operation.runner is not None or self._ports.clock.now() >= deadline:
                log.info("twin_found_running", op=message.operation_id, step=message.step)
                return Next(onward=Onward.STOP, dropped=Dropped.TWIN_RUNNING)
            self._ports.clock.sleep(LOOK_AGAIN_S)

    def _until_settled_with_store(self, message: StepMessage, loaded: Loaded | None) -> Next:
        for _ in range(RELOADS_LIMIT):
            if loaded is None:
                return STOP
            try:
                return self._judge(message, loaded)
            except StoreConflict:
                loaded = self._journal.load(message.operation_id)
            except Fenced as refusal:
                log.warning("runner_fenced", op=message.operation_id, step=message.step, reason=str(refusal))
                return STOP
        raise Retryable(f"operation {message.operation_id} changed {RELOADS_LIMIT} times while it was being read")

    def _judge(self, message: StepMessage, loaded: Loaded) -> Next:
        operation, now = loaded.operation, self._ports.clock.now()
        flow = self._flows[operation.flow]
        if message.step not in (step.name for step in flow.steps):
            log.warning("message_of_another_flow_dropped", op=operation.id, flow=flow.name, step=message.step)
            return Next(onward=Onward.STOP, dropped=Dropped.FOREIGN_STEP)
        step = flow.step(message.step)
        verdict = transitions.verdict_for(operation, flow, step, message.direction, self._runner, now)
        if verdict is Verdict.RUN:
            return self._run_step(flow, step, loaded)
        if verdict is Verdict.PASS:
            return Next(onward=Onward.CONTINUE)
        if verdict is Verdict.TURN:
            return self._turn(loaded, flow, transitions.cancelled(operation, flow, now))
        if verdict is Verdict.GIVE_UP:
            return self._turn(loaded, flow, transitions.given_up(operation, flow, step, now))
        if verdict is Verdict.YIELD:
            return self._yield(loaded, flow, transitions.yielded(operation, now))
        log.info("message_dropped", op=operation.id, step=message.step, phase=operation.phase)
        return STOP

    def _run_step(self, flow: Flow, step: Step[Any], loaded: Loaded) -> Next:
        before, instance = loaded.operation, loaded.instance
        started = transitions.begun(before, step, self._runner, self._ports.clock.now())
        shown = transitions.with_task_state(instance, step, started) if started.direction is Direction.DO else None
        self._commit(Change(before=before, after=started, lease=LeaseMove.RENEW, instance=shown))
        instance = shown or instance
        try:
            facts = self._effect(step, started, instance)
        except Exception as error:  # noqa: BLE001 - the one place that turns any error into a reaction
            return self._after_error(flow, step, Loaded(operation=started, instance=instance), error)
        return self._after_done(flow, Loaded(operation=started, instance=instance), facts)

    def _effect(self, step: Step[Any], operation: Operation, instance: Instance | None) -> Facts | None:
        if instance is None:
            raise Retryable(f"instance {operation.instance_id} has no record; the operation cannot go on without it")
        record = operation.step(step.name)
        ctx = StepContext(
            operation=operation,
            instance=instance,
            ports=self._ports,
            progress=_Progress(self._journal, self._ports.clock, operation, step.name),
            now=operation.updated_at,
            waited_s=record.waited_s,
        )
        if operation.direction is Direction.UNDO:
            step.undo(ctx)
            return None
        facts: Facts = msgspec.to_builtins(step.do(ctx))
        return facts

    def _after_done(self, flow: Flow, loaded: Loaded, facts: Facts | None) -> Next:
        def next_value(operation: Operation) -> Operation:
            return transitions.done(operation, facts, self._ports.clock.now())

        log.info("step_done", op=loaded.operation.id, step=loaded.operation.current_step)
        return self._write_end(flow, loaded, next_value)

    def _after_error(self, flow: Flow, step: Step[Any], loaded: Loaded, error: Exception) -> Next:
        if isinstance(error, self._time_up):
            error = Retryable(f"{step.name} took longer than its limit of {step.time_limit_s} s", delay_s=1.0)
        trace = "".join(traceback.format_exception(error, limit=30))

        def next_value(operation: Operation) -> Operation:
            return transitions.failed_try(operation, flow, step, error, trace, self._ports.clock.now())

        log.warning(
            "step_failed", op=loaded.operation.id, step=step.name, error=type(error).__name__, reason=str(error)
        )
        return replace(self._write_end(flow, loaded, next_value), error=error)

    def _write_end(self, flow: Flow, loaded: Loaded, next_value: Callable[[Operation], Operation]) -> Next:
        """Write the end of a try. A bystander's note (cancel, pre-emption) may have moved the revision meanwhile.

        Fenced when the try is ours no more: another began, or this very end was written and its answer lost.
        """
        ours = loaded.operation
        for _ in range(RELOADS_LIMIT):
            after = next_value(loaded.operation)
            try:
                return self._turn(loaded, flow, after)
            except StoreConflict:
                again = self._journal.load(loaded.operation.id)
                if again is None or (again.operation.token, again.operation.runner) != (ours.token, ours.runner):
                    raise Fenced(f"operation {loaded.operation.id} was taken over while its step ran") from None
                loaded = again
        raise Retryable(f"operation {loaded.operation.id} changed {RELOADS_LIMIT} times while its step ended")

    def _turn(self, loaded: Loaded, flow: Flow, after: Operation) -> Next:
        """Write `after`; when nothing is left to do this way, settle in the same write."""
        before = loaded.operation
        if after.phase is Phase.STUCK and after.preempted_by is not None:
            return self._yield(loaded, flow, transitions.yielded(after, after.updated_at))
        if after.phase is Phase.STUCK:
            self._commit(Change(before=before, after=after, instance=with_fault(loaded.instance, after)))
            log.error("operation_stuck", op=after.id, step=after.failure and after.failure.step)
            return Next(onward=Onward.STOP, ended=after)
        if after.phase.settled:
            return self._settle(loaded, flow, after)
        if after.current_step is not None:
            self._commit(Change(before=before, after=after))
            on_its_way = after.phase is before.phase and after.not_before is None
            return Next(onward=Onward.CONTINUE if on_its_way else Onward.SEND, operation=after)
        if after.phase is Phase.ROLLING_BACK and transitions.wants_next_host(after, flow):
            self._commit(Change(before=before, after=after))
            return Next(onward=Onward.SEND, operation=after)
        return self._settle(loaded, flow, after)

    def _settle(self, loaded: Loaded, flow: Flow, after: Operation) -> Next:
        now = self._ports.clock.now()
        settled, settlement = settled_with(after, loaded.instance, flow, now)
        change = Change(
            before=loaded.operation,
            after=settled,
            lease=LeaseMove.RELEASE,
            instance=loaded.instance if settlement.forget_instance else settlement.instance,
            forget_instance=settlement.forget_instance,
            images=settlement.images,
            released_image_name=settlement.released_image_name,
            released_volumes=settlement.released_volumes,
            released_ports=settlement.released_ports,
        )
        log.info("operation_settled", op=after.id, phase=settled.phase)
        return self._hand_on(change, loaded.instance, now)

    def _yield(self, loaded: Loaded, flow: Flow, after: Operation) -> Next:
        now = after.updated_at
        released = flow.failed(after, loaded.instance, now).released_image_name if loaded.instance else None
        change = Change(before=loaded.operation, after=after, lease=LeaseMove.RELEASE, released_image_name=released)
        log.info("operation_preempted", op=after.id, by=after.preempted_by)
        return self._hand_on(change, loaded.instance, now)

    def _hand_on(self, change: Change, former: Instance | None, now: float) -> Next:
        """Write an end. If another operation waits for this one to stop, it gets the lease in the same write."""
        change = with_successor(change, self._journal, now)
        self._commit(change)
        onward = Onward.STOP if change.successor is None else Onward.SEND
        gone = ports_gone(former, change)
        return Next(onward=onward, operation=change.successor, ended=change.after, gone=gone)

    def _commit(self, change: Change) -> None:
        deadline = self._ports.clock.now() + COMMIT_PATIENCE_S
        while True:
            try:
                return self._journal.commit(change)
            except CannotAsk as silence:
                if self._ports.clock.now() >= deadline:
                    raise
                log.warning("store_not_reached", op=change.before.id, reason=str(silence))
                self._ports.clock.sleep(0.5)


def settled_with(
    operation: Operation, instance: Instance | None, flow: Flow, now: float
) -> tuple[Operation, Settlement]:
    """The end of an operation whose steps are all done, all undone, or kept, and what it does to the records."""
    phase = transitions.outcome_phase(operation)
    if phase is Phase.SUCCEEDED:
        records_of = flow.succeeded
    else:
        records_of = flow.failed if operation.phase is Phase.ROLLING_BACK else flow.kept
    settlement = records_of(operation, instance, now) if instance is not None else Settlement()
    settled = replace(operation, phase=phase, settled_at=now, not_before=None, result=settlement.result)
    return settled, settlement


def ports_gone(former: Instance | None, change: Change) -> tuple[Port, ...]:
    """The ports that the instance has no more once the change is written."""
    if former is None or (change.instance is None and not change.forget_instance):
        return ()
    left = () if change.forget_instance or change.instance is None else change.instance.ports
    kept = {port.id for port in left}
    return tuple(port for port in former.ports if port.id not in kept)


def with_fault(instance: Instance | None, stuck: Operation) -> Instance | None:
    """The record of an instance whose operation is STUCK: it says why, and that nothing is being done to it."""
    if instance is None:
        return None
    return replace(instance, task_state=None, fault=fault_of(stuck, stuck.updated_at))


def with_successor(change: Change, journal: Journal, now: float) -> Change:
    """The same end, handing the lease to the operation that waits for it, if one does and still lives.

    That one needs the instance's record, so the record is forgotten at its end, not at this one.
    """
    waiting_id = change.before.preempted_by
    waiting = journal.load(waiting_id) if waiting_id else None
    if waiting is None or waiting.operation.phase is not Phase.WAITING:
        return change
    successor = transitions.woken(waiting.operation, change.after.token + 1, now)
    return replace(change, lease=LeaseMove.HAND_OVER, successor=successor, forget_instance=False)


class _Progress:
    """Tells watchers how far a step has come, now and then and never at the step's cost; and the step, if it is to stop.

    What is complete is not thrown away: the next boundary will do.
    """

    def __init__(self, journal: Journal, clock: Clock, operation: Operation, step: str) -> None:
        self._journal = journal
        self._clock = clock
        self._operation = operation
        self._step = step
        self._next_at = 0.0

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        now = self._clock.now()
        if now < self._next_at and done_bytes != total_bytes:
            return
        self._next_at = now + PROGRESS_EVERY_S
        try:
            told_to_stop = self._journal.note_progress(self._operation, self._step, done_bytes, total_bytes)
        except CannotAsk as silence:
            self._next_at = now + PROGRESS_PAUSE_S  # each call to a hung store takes seconds
            log.warning("progress_not_noted", op=self._operation.id, step=self._step, reason=str(silence))
            return
        if told_to_stop and done_bytes != total_bytes and self._operation.direction is Direction.DO:
            raise Cancelled(f"{self._step} was told to stop after {done_bytes} bytes")
