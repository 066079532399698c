"""The processes of simulated hosts: which of them live, what they are called, and which message each has in hand."""

from dataclasses import dataclass, field
from enum import StrEnum

from taskvisor.model.ids import HostName, InstanceId
from tests.simulate.post import Message

POOL = 2


class Role(StrEnum):
    STEPS = "steps"
    CONTROL = "control"
    PARENT = "parent"  # of a steps node: starts it and watches its pool


@dataclass(kw_only=True)
class Process:
    """A process with something in hand. One that is held up at a call may be dead by the time it goes on."""

    node: "Node"
    role: Role
    pid: int
    message: Message | None = None
    number: int = 0
    until: float = float("inf")
    told: bool = False  # that its time is up
    alive: bool = True
    ran: bool = False  # it has called a port
    instance: InstanceId | None = None  # whose lock it has asked for


@dataclass(kw_only=True)
class Node:
    """Both nodes of one host."""

    host: HostName
    up: bool = True
    starts: int = 0
    heard_at: float = 0.0
    pids: list[int] = field(default_factory=lambda: [1, 2])
    next_pid: int = POOL + 1
    waiting: list[int] = field(default_factory=list)
    """Messages in its queue, or in flight to its dead self."""
    in_flight: list[int] = field(default_factory=list)
    """Requests that its dead control node had in hand."""

    @property
    def incarnation(self) -> str:
        return f"{self.host}-{self.starts}"

    def replace_child(self, pid: int) -> None:
        """A pool process has died; another takes its place."""
        if pid in self.pids:
            self.pids[self.pids.index(pid)] = self.next_pid
            self.next_pid += 1
