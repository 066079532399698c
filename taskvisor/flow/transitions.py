"""How an operation's record moves, as pure functions from one value to the next.

Invariant: no I/O, no clock, no chance. What is written, and in which order with the effects, is the runner's business.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from taskvisor.flow.step import Flow, Step
from taskvisor.model.errors import (
    Busy,
    Cancelled,
    Contradiction,
    DoesNotFit,
    OutOfTries,
    Retryable,
    TaskvisorError,
)
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Facts, Failure, Operation, Runner, StepRecord, TimelineEntry
from taskvisor.model.records import Instance
from taskvisor.model.states import Direction, Mark, Phase

TIMELINE_LIMIT = 500
"""Entries kept per operation; the oldest go first."""
EARLY_S = 0.25
"""A delayed message may come so much before its time: two clocks are never equal."""
BACKOFF_LIMIT_S = 60.0
WORKER_LOST = "WorkerLost"
"""On the timeline, the outcome of a try whose end nobody wrote."""


class Verdict(StrEnum):
    """What a message that asks for a step deserves."""

    RUN = "run"
    PASS = "pass"  # the step is done and the next has not begun: let the chain go on  # noqa: S105
    DROP = "drop"  # late, doubled, out of order, or for another host: somebody else carries the operation on
    TURN = "turn"  # a wish to cancel was noted: turn round here
    YIELD = "yield"  # a delete wants the instance: end here and hand over
    GIVE_UP = "give_up"  # the step has begun as often as it may


def verdict_for(
    operation: Operation, flow: Flow, step: Step[Any], direction: Direction, runner: Runner, now: float
) -> Verdict:
    """Judge a message by the journal alone. The caller holds the instance's lock on this host, so no twin is running."""
    if operation.phase.settled or operation.phase is Phase.WAITING or operation.direction is not direction:
        return Verdict.DROP
    if operation.host != runner.host:
        return Verdict.DROP
    record = operation.step(step.name)
    if _mark(record, direction) is Mark.DONE:
        return Verdict.PASS if _next_is_untouched(operation) else Verdict.DROP
    if operation.current_step != step.name:
        return Verdict.DROP
    if operation.preempted_by is not None and flow.yields:
        return Verdict.YIELD
    if direction is Direction.DO and operation.told_to_stop:
        return Verdict.TURN
    if operation.not_before is not None and now < operation.not_before - EARLY_S:
        return Verdict.DROP
    if _tries(record, direction) >= step.tries:
        return Verdict.GIVE_UP
    return Verdict.RUN


def _mark(record: StepRecord, direction: Direction) -> Mark:
    return record.do if direction is Direction.DO else record.undo


def _tries(record: StepRecord, direction: Direction) -> int:
    return record.tries if direction is Direction.DO else record.undo_tries


def _next_is_untouched(operation: Operation) -> bool:
    following = operation.current_step
    return following is not None and _mark(operation.step(following), operation.direction) is Mark.PENDING


def _with_step(operation: Operation, record: StepRecord) -> Operation:
    steps = tuple(record if record.name == old.name else old for old in operation.steps)
    return replace(operation, steps=steps)


def _touched(operation: Operation, now: float) -> Operation:
    return replace(operation, revision=operation.revision + 1, updated_at=now)


def accepted(
    flow: Flow, operation_id: OperationId, instance: Instance, request: Facts, now: float, former: Operation | None
) -> Operation:
    """The operation at its very beginning. `former` is one of the same id that ended: its timeline and numbers go on."""
    operation = Operation(
        id=operation_id,
        flow=flow.name,
        instance_id=instance.id,
        instance_name=instance.name,
        host=instance.host,
        request=request,
        phase=Phase.RUNNING,
        steps=tuple(StepRecord(name=step.name) for step in flow.steps),
        created_at=now,
        updated_at=now,
    )
    if former is None:
        return operation
    return replace(
        operation,
        created_at=former.created_at,
        revision=former.revision + 1,
        token=former.token + 1,
        timeline=former.timeline,
    )


def begun(operation: Operation, step: Step[Any], runner: Runner, now: float) -> Operation:
    """The step is STARTED: one try more, a new fencing token. Written before the host is touched."""
    operation = _without_runner(operation, now)
    record = operation.step(step.name)
    if operation.direction is Direction.DO:
        first = record.first_started_at if record.first_started_at is not None else now
        record = replace(record, do=Mark.STARTED, tries=record.tries + 1, first_started_at=first)
    else:
        record = replace(record, undo=Mark.STARTED, undo_tries=record.undo_tries + 1)
    operation = _with_step(_touched(operation, now), record)
    return replace(
        operation,
        token=operation.token + 1,
        runner=runner,
        runner_since=now,
        runner_until=now + step.time_limit_s,
        not_before=None,
        relaunches=0,
    )


def _ended_try(operation: Operation, outcome: str, message: str | None, now: float) -> Operation:
    """The runner has let go; the try is on the timeline."""
    runner, name = operation.runner, operation.current_step
    assert runner is not None and name is not None  # noqa: S101, PT018 - only after `begun`
    entry = TimelineEntry(
        step=name,
        direction=operation.direction,
        attempt=_tries(operation.step(name), operation.direction),
        host=runner.host,
        started_at=operation.runner_since if operation.runner_since is not None else operation.updated_at,
        ended_at=now,
        outcome=outcome,
        message=message,
    )
    timeline = (*operation.timeline, entry)[-TIMELINE_LIMIT:]
    return replace(_touched(operation, now), timeline=timeline, runner=None, runner_since=None, runner_until=None)


def _without_runner(operation: Operation, now: float) -> Operation:
    """Nobody runs a step of it. Who seems to is dead or has let go, for the caller holds the instance's lock."""
    runner = operation.runner
    if runner is None:
        return operation
    message = f"process {runner.pid} of {runner.host} died in this try, or could not write its end"
    ended = _ended_try(operation, WORKER_LOST, message, now)
    return replace(ended, revision=operation.revision)


def done(operation: Operation, facts: Facts | None, now: float) -> Operation:
    """The current step is DONE, with what it found."""
    name = operation.current_step
    assert name is not None  # noqa: S101 - only after `begun`
    operation = _ended_try(operation, "done", None, now)
    record = operation.step(name)
    if operation.direction is Direction.DO:
        operation = _with_step(operation, replace(record, do=Mark.DONE))
        return replace(operation, facts={**operation.facts, name: facts or {}})
    return _with_step(operation, replace(record, undo=Mark.DONE))


def failed_try(
    operation: Operation, flow: Flow, step: Step[Any], error: Exception, trace: str, now: float
) -> Operation:
    """What follows from an error, by its class alone: wait, try again, turn round, or be STUCK."""
    code = error.code if isinstance(error, TaskvisorError) else type(error).__name__
    message = str(error) or code
    began_at = operation.runner_since if operation.runner_since is not None else now
    ended = _ended_try(operation, code, message, now)
    record = ended.step(step.name)
    if isinstance(error, Cancelled):
        return _later(ended, now)  # the wish is in the journal, and the next message finds it there
    if isinstance(error, Contradiction):
        return stuck(ended, Failure(code=code, message=message, step=step.name), now)
    if isinstance(error, Busy):
        waited_s = record.waited_s + (now - began_at) + error.delay_s
        if waited_s <= step.wait_limit_s:
            return _later(_with_step(ended, _untried(record, ended.direction, waited_s)), now + error.delay_s)
        error = OutOfTries(f"{message} (waited {waited_s:.0f} s, the limit is {step.wait_limit_s} s)")
    elif isinstance(error, Retryable) or ended.direction is Direction.UNDO:
        tries = _tries(record, ended.direction)
        if tries < step.tries:
            delay_s = error.delay_s if isinstance(error, Retryable) else 1.0
            return _later(ended, now + min(delay_s * 2 ** (tries - 1), BACKOFF_LIMIT_S))
        error = OutOfTries(f"{message} (tried {tries} times)")
    known = isinstance(error, TaskvisorError)
    failure = Failure(
        code=type(error).__name__, message=str(error) or code, step=step.name, traceback=None if known else trace
    )
    return _failed(ended, flow, failure, now)


def _failed(operation: Operation, flow: Flow, failure: Failure, now: float) -> Operation:
    """What follows when a step is not tried again: STUCK on the way back, else it turns round, or stays as it is if asked to."""
    if operation.direction is Direction.UNDO:
        return stuck(operation, failure, now)
    wanted = not operation.cancel_requested and failure.code != DoesNotFit.__name__
    if wanted and flow.keeps(operation):
        return kept(operation, failure, now)
    return turned(operation, flow, failure, now)


def _untried(record: StepRecord, direction: Direction, waited_s: float) -> StepRecord:
    if direction is Direction.DO:
        return replace(record, tries=record.tries - 1, waited_s=waited_s)
    return replace(record, undo_tries=record.undo_tries - 1, waited_s=waited_s)


def _later(operation: Operation, when: float) -> Operation:
    return replace(operation, not_before=when)


def given_up(operation: Operation, flow: Flow, step: Step[Any], now: float) -> Operation:
    """The step began as often as it may and its end was never written: it kills its worker, or is killed each time."""
    tries = _tries(operation.step(step.name), operation.direction)
    failure = Failure(
        code=OutOfTries.__name__,
        message=f"{step.name} began {tries} times and its worker died or lost its node each time; see the worker's log",
        step=step.name,
    )
    return _failed(_touched(_without_runner(operation, now), now), flow, failure, now)


def turned(operation: Operation, flow: Flow, failure: Failure, now: float) -> Operation:
    """It goes backwards from here. Steps that have nothing to take back are taken back already."""
    steps = tuple(
        replace(record, undo=Mark.DONE, waited_s=0.0)
        if type(flow.step(record.name)).undo is Step.undo
        else replace(record, waited_s=0.0)
        for record in operation.steps
    )
    return replace(
        operation,
        phase=Phase.ROLLING_BACK,
        failure=failure,
        steps=steps,
        not_before=None,
        updated_at=now,
    )


def cancelled(operation: Operation, flow: Flow, now: float) -> Operation:
    """It turns round because a caller asked for it, or for the instance's end."""
    operation, by = _without_runner(operation, now), operation.preempted_by
    asked = operation.cancel_reason or "cancelled on request"
    message = asked if by is None else f"operation {by} deletes the instance and waits for this one"
    failure = Failure(code=Cancelled.__name__, message=message, step=operation.current_step or operation.steps[-1].name)
    return turned(_touched(operation, now), flow, failure, now)


def stuck(operation: Operation, failure: Failure, now: float) -> Operation:
    """Nothing more is touched: the claim, the ports and the lease stay, and a person must look."""
    return replace(
        operation,
        phase=Phase.STUCK,
        stuck_way=operation.direction,
        failure=failure,
        not_before=None,
        updated_at=now,
        settled_at=now,
    )


def kept(operation: Operation, failure: Failure, now: float) -> Operation:
    """It has failed, and what it did stays where it is until it is retried from this step, or the instance is deleted."""
    message = (
        f"{failure.message}; what was done is kept on {operation.host}: `taskvisor ops retry {operation.id}` goes on from"
        f" {failure.step}, `taskvisor delete {operation.instance_name}` takes it all back"
    )
    return replace(
        operation,
        phase=Phase.FAILED,
        failure=replace(failure, message=message),
        not_before=None,
        updated_at=now,
        settled_at=now,
    )


def yielded(operation: Operation, now: float) -> Operation:
    """It ends where it is, for another operation that will see to all that it left."""
    operation = _without_runner(operation, now)
    failure = Failure(
        code=Cancelled.__name__,
        message=f"operation {operation.preempted_by} deletes the instance and took over",
        step=operation.current_step or operation.steps[-1].name,
    )
    return replace(
        _touched(operation, now),
        phase=Phase.CANCELLED,
        failure=failure,
        settled_at=now,
    )


def resumed(operation: Operation, now: float) -> Operation:
    """A STUCK or kept operation goes on the way it went, with fresh tries for the step that stopped it."""
    phase = Phase.RUNNING if operation.direction is Direction.DO else Phase.ROLLING_BACK
    name = operation.current_step
    steps = tuple(
        replace(record, tries=0, undo_tries=0, waited_s=0.0) if record.name == name else record
        for record in operation.steps
    )
    touched = replace(_touched(operation, now), phase=phase, stuck_way=None, settled_at=None, steps=steps, relaunches=0)
    return touched if phase is Phase.ROLLING_BACK else replace(touched, failure=None)


def taken_back(operation: Operation, flow: Flow, now: float) -> Operation:
    """A STUCK operation goes backwards, whichever way it went: another is to have the instance once it is rolled back."""
    going = resumed(operation, now)
    if going.direction is Direction.UNDO:
        return going
    assert operation.failure is not None  # noqa: S101 - nothing is STUCK without one
    return turned(going, flow, operation.failure, now)


def wished_away(operation: Operation, now: float, reason: str | None = None) -> Operation:
    """The wish that it stops, noted for the next step boundary; a pause before the next try is cut short."""
    not_before = None if operation.direction is Direction.DO else operation.not_before
    return replace(_touched(operation, now), cancel_requested=True, cancel_reason=reason, not_before=not_before)


def preempted(operation: Operation, by: OperationId, now: float) -> Operation:
    """Another operation's wish to take over, noted for the next step boundary; it too cuts a pause short."""
    not_before = None if operation.direction is Direction.DO else operation.not_before
    return replace(_touched(operation, now), preempted_by=by, not_before=not_before)


def relaunched(operation: Operation, now: float) -> Operation:
    """A note that its message was sent again, so that the next look waits twice as long."""
    return replace(_touched(operation, now), relaunches=operation.relaunches + 1)


def moved_to(operation: Operation, host: HostName, placement: tuple[Mapping[str, str], ...], now: float) -> Operation:
    """Rolled back on one host, it begins again on another. What happened stays on the timeline."""
    fresh = tuple(StepRecord(name=record.name) for record in operation.steps)
    return replace(
        _touched(operation, now),
        host=host,
        phase=Phase.RUNNING,
        steps=fresh,
        facts={},
        failure=None,
        excluded_hosts=(*operation.excluded_hosts, operation.host),
        placement=placement,
    )


def woken(operation: Operation, token: int, now: float) -> Operation:
    """A waiting operation has been given the lease."""
    return replace(_touched(operation, now), phase=Phase.RUNNING, token=token)


def outcome_phase(operation: Operation) -> Phase:
    """Which end it has come to, when no step of it is left to do."""
    if operation.failure is None:
        return Phase.SUCCEEDED
    return Phase.CANCELLED if operation.failure.code == Cancelled.__name__ else Phase.FAILED


def wants_next_host(operation: Operation, flow: Flow) -> bool:
    """A complete roll-back that is to be followed by a placement elsewhere."""
    failure = operation.failure
    return flow.reschedules and failure is not None and failure.code == DoesNotFit.__name__


def with_task_state(instance: Instance | None, step: Step[Any], operation: Operation) -> Instance | None:
    """The instance's record while the step runs; None when nothing in it changes."""
    shown = step.task_state_for(operation)
    if instance is None or shown is None or instance.task_state is shown:
        return None
    return replace(instance, task_state=shown)


def messages_for(operation: Operation) -> tuple[str, ...]:
    """The steps still to be sent, in order, from where the journal says the operation is."""
    if operation.phase not in (Phase.RUNNING, Phase.ROLLING_BACK):
        return ()
    if operation.direction is Direction.DO:
        return tuple(record.name for record in operation.steps if record.do is not Mark.DONE)
    begun_steps = [record for record in reversed(operation.steps) if record.do is not Mark.PENDING]
    return tuple(record.name for record in begun_steps if record.undo is not Mark.DONE)
