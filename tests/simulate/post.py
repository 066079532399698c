"""The messages of a simulated fleet: each has a due time, and may be lost, doubled, delayed, or come back after a crash."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taskvisor.flow.recovery import wants_settling
from taskvisor.flow.transitions import messages_for
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation
from taskvisor.model.states import Direction


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message. `host` is None for what any control node takes. `steps` are those still to be sent, the first is asked.

    `looks` counts how often a request has been asked again.
    """

    task: str
    subject: str = ""
    host: HostName | None = None
    direction: Direction = Direction.DO
    steps: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    looks: int = 0
    due_at: float = 0.0

    def __str__(self) -> str:
        undo = ".undo" if self.direction is Direction.UNDO else ""
        step = f" {self.steps[0]}{undo}" if self.steps else ""
        place = f" @{self.host}" if self.host else ""
        return f"{self.task} {self.subject}{step}{place}"


STEP = "step"
SETTLE = "settle"
REQUEST = "request"
WISH = "wish"
SWEEP = "sweep"
TRACK = "track"
SYNC = "sync"
REMOVE = "remove image"
REFRESH = "refresh networks"
CHECK = "check networks"


def launch_message(operation: Operation, now: float) -> Message | None:
    """What `Edge.launch` sends; None when nothing is to be done."""
    if wants_settling(operation):
        return Message(task=SETTLE, subject=operation.id, due_at=now)
    steps = messages_for(operation)
    if not steps:
        return None
    due_at = max(now, operation.not_before or 0.0)
    chain = Message(task=STEP, subject=operation.id, host=operation.host, direction=operation.direction, steps=steps)
    return replace(chain, due_at=due_at)
