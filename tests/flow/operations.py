"""Operations of a flow of three steps, a, b and c, at every point of their way: plain values, no store."""

from dataclasses import replace
from typing import Any

from taskvisor.flow import transitions
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Failure, Operation, Runner, StepRecord
from taskvisor.model.states import Direction, Mark, Phase
from tests.flow.toys import Script, toy_flow, toy_step
from tests.support.records import instance

H1, H2 = HostName("h1"), HostName("h2")
ME = Runner(host=H1, incarnation="first", pid=1)
DEAD = Runner(host=H1, incarnation="before", pid=7)
DO, UNDO = Direction.DO, Direction.UNDO
PENDING, STARTED, DONE = Mark.PENDING, Mark.STARTED, Mark.DONE
NOW = 100.0
FLOW = toy_flow(*(toy_step(name, Script(), tries=3, wait_limit_s=50) for name in "abc"))
STUBBORN = toy_flow(*FLOW.steps, yields=False)
KEEPER = toy_flow(*FLOW.steps, keeps=lambda *_: True)
GUEST = instance(ports=())
FAILURE = Failure(code="Refused", message="no", step="b")


def op(*marks: tuple[Mark, Mark], phase: Phase = Phase.RUNNING, **fields: Any) -> Operation:
    """An operation of FLOW whose steps have these marks (do, undo); the rest is PENDING."""
    padded = [*marks, *[(PENDING, PENDING)] * (3 - len(marks))]
    steps = tuple(
        StepRecord(name=name, do=do, undo=undo, tries=int(do is not PENDING), undo_tries=int(undo is not PENDING))
        for name, (do, undo) in zip("abc", padded, strict=True)
    )
    fresh = transitions.accepted(FLOW, OperationId("op"), GUEST, {}, 1.0, None)
    return replace(fresh, steps=steps, phase=phase, **fields)


def back(*marks: tuple[Mark, Mark], **fields: Any) -> Operation:
    """The same, rolling back."""
    return op(*marks, phase=Phase.ROLLING_BACK, failure=FAILURE, **fields)


D0, S0 = (DONE, PENDING), (STARTED, PENDING)
