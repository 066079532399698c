"""Flows whose steps do what a script says, on a real store: for tests of the engine, which knows nothing of steps."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taskvisor.flow import transitions
from taskvisor.flow.runner import Next
from taskvisor.flow.step import Flow, Settlement, Step, StepContext
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import Direction, InstanceAction, Mark, Phase, TaskState, VmState
from taskvisor.state.admission import Holding, Lease
from tests.support.fleet import Fleet
from tests.support.records import claim, instance

Act = Callable[[StepContext], object]
"""What a step does beside its effect; what it raises is the step's error."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a toy step found: how often it was done."""

    times: int


@dataclass
class Script:
    """What each step is to do the next times it runs: an error to raise, or something to call. Then it succeeds."""

    acts: dict[str, list[Exception | Act]] = field(default_factory=dict)
    always: dict[str, Exception | Act] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    """Every `do` ("a") and `undo` ("-a") that began, in order."""
    made: set[str] = field(default_factory=set)
    """The steps whose effect is there now."""

    def act(self, what: str, ctx: StepContext) -> None:
        self.effects.append(what)
        acts = self.acts.get(what, [])
        act = acts.pop(0) if acts else self.always.get(what)
        if isinstance(act, Exception):
            raise act
        if act is not None:
            act(ctx)


def toy_step(
    name: str,
    script: Script,
    *,
    tries: int = 3,
    wait_limit_s: int = 600,
    time_limit_s: int = 60,
    undoable: bool = True,
    task_state: TaskState | None = None,
) -> Step[Any]:
    """A step of that name. Without `undoable` it has no undo of its own."""

    class ToyStep(Step[Made]):
        facts_type = Made

        def do(self, ctx: StepContext) -> Made:
            script.made.add(name)
            script.act(name, ctx)
            return Made(times=script.effects.count(name))

    def undo(self: Step[Any], ctx: StepContext) -> None:
        script.act(f"-{name}", ctx)
        script.made.discard(name)

    fields: dict[str, Any] = {
        "name": name,
        "tries": tries,
        "wait_limit_s": wait_limit_s,
        "time_limit_s": time_limit_s,
        "task_state": task_state,
        **({"undo": undo} if undoable else {}),
    }
    step: Step[Any] = type("ToyStep", (ToyStep,), fields)()
    return step


def toy_flow(*steps: Step[Any], **fields: Any) -> Flow:
    """A flow of these steps that makes an instance, or nothing is left of it."""

    class ToyFlow(Flow):
        name = "toy"
        prefix = "toy"
        action = InstanceAction.CREATE

        def succeeded(self, operation: Operation, instance: Instance, now: float) -> Settlement:
            del now
            return Settlement(
                instance=replace(instance, vm_state=VmState.ACTIVE, task_state=None), result={"op": operation.id}
            )

        def failed(self, operation: Operation, instance: Instance, now: float) -> Settlement:
            del operation, instance, now
            return Settlement(forget_instance=True)

    flow: Flow = type("ToyFlow", (ToyFlow,), {"steps": steps, **fields})()
    return flow


class Bench:
    """An operation of a toy flow on host h1, and everything that can happen to it."""

    def __init__(self, redis_url: str, root: Path, script: Script, *steps: Step[Any], **flow: Any) -> None:
        self.script = script
        self.locks_dir = root / "h1" / "locks"
        self.flow = toy_flow(*steps, **flow)
        end = toy_flow(toy_step("end", script, undoable=False), name="end", preempts=True)
        self.fleet = Fleet(redis_url, root, flows={"toy": self.flow, "end": end})
        self.end = end

    def accept(self, operation_id: str = "op") -> Operation:
        """The operation is in the store with a new instance, and its messages are in the post."""
        guest = instance(f"web-{operation_id}", operation_id, ports=(), vm_state=VmState.BUILDING)
        now = self.fleet.clock.now()
        accepted = transitions.accepted(self.flow, OperationId(operation_id), guest, {}, now, None)
        self.fleet.store.admission.admit_build(accepted, guest, claim(guest))
        self.fleet.post.launch(accepted)
        return accepted

    def run_all(self, operation_id: str = "op") -> Operation:
        """Accept it and deliver until nothing is in the post."""
        self.accept(operation_id)
        self.fleet.post.deliver_all()
        return self.op(operation_id)

    def run(self, step: str, direction: Direction = Direction.DO, operation_id: str = "op") -> Next:
        """One message to the host's runner; nothing follows."""
        return self.fleet.post.run(next(iter(self.fleet.hosts)), OperationId(operation_id), step, direction)

    def deliver(self, *, messages: int) -> None:
        """So many messages, each as it falls due."""
        for _ in range(messages):
            self.fleet.post.deliver(min(self.fleet.post.chains, key=lambda chain: chain.due_at))

    def op(self, operation_id: str = "op") -> Operation:
        return self.fleet.read(operation_id)

    def holding(self, operation_id: str = "op") -> Holding | None:
        return self.fleet.store.admission.read_holding(self.op(operation_id).instance_id)

    def lease(self, operation_id: str = "op") -> Lease | None:
        holding = self.holding(operation_id)
        return holding.lease if holding is not None else None

    def claims(self) -> int:
        return sum(host.instances for host in self.fleet.store.hosts.list_hosts())

    def wish_away(self) -> None:
        """A caller asks for it to stop."""
        now = self.op()
        noted = transitions.wished_away(now, self.fleet.clock.now())
        self.fleet.store.journal.commit(Change(before=now, after=noted, lease=LeaseMove.WATCH))

    def preempt(self) -> Operation:
        """Another operation wants the instance, and waits for it."""
        holding, holder = self.holding(), self.op()
        assert holding is not None
        now = self.fleet.clock.now()
        ending = transitions.accepted(self.end, OperationId("end-op"), holding.instance, {}, now, None)
        waiting = replace(ending, phase=Phase.WAITING)
        noted = transitions.preempted(holder, waiting.id, now)
        self.fleet.store.admission.admit_waiting(waiting, holding, noted)
        return waiting

    def marks(self) -> list[tuple[Mark, Mark]]:
        return [(step.do, step.undo) for step in self.op().steps]
