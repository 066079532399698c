"""One request: what was asked, how far each step has come, how it ended. The journal is this record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.placement import Choice
from taskvisor.model.states import Direction, Mark, Phase

SCHEMA_VERSION = 1
"""Of everything stored. A reader refuses, in words, what a newer version wrote."""

Facts = Mapping[str, Any]
"""JSON of one step's facts dataclass; opaque to all but the step that made it (`StepContext.facts_of` decodes it)."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an operation turned round: the error's class, the step it came from, a sentence, and for bugs the traceback."""

    code: str
    message: str
    step: str
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The process that runs a step. `incarnation` is its node's: a new one at each start of the node."""

    host: HostName
    incarnation: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """How far one step has come, both ways. `waited_s` and the tries are bounded by the step's own limits."""

    name: str
    do: Mark = Mark.PENDING
    undo: Mark = Mark.PENDING
    tries: int = 0
    undo_tries: int = 0
    waited_s: float = 0.0
    first_started_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One try of one step. `outcome` is "done" or the error's class."""

    step: str
    direction: Direction
    attempt: int
    host: HostName
    started_at: float
    ended_at: float
    outcome: str
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A request and its journal.

    Invariants: `runner`, `runner_since` and `runner_until` are set exactly while a step is STARTED by a process; `token`
    is the fencing token of the last step that began; `failure` is set once the operation has turned round; `settled_at`
    is set when `phase.settled`.
    `host` is where its steps run. `request` is the validated spec as JSON and never changes; `revision` counts writes.
    """

    id: OperationId
    flow: str
    instance_id: InstanceId
    instance_name: str
    host: HostName
    request: Facts
    phase: Phase
    steps: tuple[StepRecord, ...]
    created_at: float
    updated_at: float
    revision: int = 0
    schema: int = SCHEMA_VERSION
    token: int = 0
    runner: Runner | None = None
    runner_since: float | None = None
    runner_until: float | None = None
    not_before: float | None = None
    facts: Mapping[str, Facts] = field(default_factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    failure: Failure | None = None
    cancel_requested: bool = False
    cancel_reason: str | None = None  # why, when it was not its caller's wish
    preempted_by: OperationId | None = None
    excluded_hosts: tuple[HostName, ...] = ()
    placement: tuple[Mapping[str, str], ...] = ()
    relaunches: int = 0
    stuck_way: Direction | None = None  # which way it went when it got STUCK
    settled_at: float | None = None
    result: Facts | None = None
    choice: Choice | None = None  # how its host was chosen among those that `placement` does not speak against

    @property
    def direction(self) -> Direction:
        """Which way its steps go now, or went when it got STUCK."""
        if self.phase is Phase.STUCK and self.stuck_way is not None:
            return self.stuck_way
        return Direction.UNDO if self.phase is Phase.ROLLING_BACK else Direction.DO

    @property
    def current_step(self) -> str | None:
        """The step that is running or is next; None when nothing is left to do this way."""
        if self.direction is Direction.DO:
            return next((step.name for step in self.steps if step.do is not Mark.DONE), None)
        begun = (step for step in reversed(self.steps) if step.do is not Mark.PENDING and step.undo is not Mark.DONE)
        return next((step.name for step in begun), None)

    @property
    def told_to_stop(self) -> bool:
        """A caller has cancelled it, or a delete wants its instance."""
        return self.cancel_requested or self.preempted_by is not None

    @property
    def left_alone(self) -> tuple[str, ...]:
        """The steps whose effects, or parts of them, are still on the host: begun and not taken back."""
        return tuple(step.name for step in self.steps if step.do is not Mark.PENDING and step.undo is not Mark.DONE)

    @property
    def kept(self) -> bool:
        """True: it failed and was asked to leave what it had done, so that it can go on from the step that failed."""
        return self.phase is Phase.FAILED and bool(self.left_alone)

    def step(self, name: str) -> StepRecord:
        """The record of the step `name`; KeyError for a step that is not of this flow."""
        for record in self.steps:
            if record.name == name:
                return record
        raise KeyError(name)

    def number_of(self, name: str) -> int:
        """The step's place in the flow, from 1."""
        return next(number for number, record in enumerate(self.steps, 1) if record.name == name)
