"""What processes do with a message: the real engine at work, and what `tasks/edge.py` does around it with Celery."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from math import ceil
from typing import Any

import redis

from tasks.door import Admitted, Answer
from tasks.entry_tasks import TURN_S, TURNS_LIMIT
from tasks.flows import FLOWS
from tasks.image_removal import ImageRemoval, RemovalSweep
from tasks.image_requests import Answered, ImageDoor
from tasks.periodic import Settler, Sweep
from tasks.port_news import tell_of_ports
from tasks.replug import PlugCheck
from taskvisor.flow.ports import Ports
from taskvisor.flow.runner import Next, Onward, StepMessage, StepRunner
from taskvisor.model.errors import Busy, CannotAsk, Conflicting, IdInUse, TaskvisorError
from taskvisor.model.ids import HostName, ImageId, InstanceId, NetworkId, OperationId
from taskvisor.model.network import Port
from taskvisor.model.operation import Operation, Runner
from taskvisor.model.records import Image, Instance
from taskvisor.model.states import Mark, Phase
from taskvisor.state.connection import asking
from taskvisor.state.writing import Outcome
from tests.simulate.agenda import Agenda
from tests.simulate.nodes import Process
from tests.simulate.post import CHECK, REFRESH, REMOVE, REQUEST, SETTLE, STEP, SWEEP, SYNC, TRACK, WISH, Message
from tests.simulate.story import Story
from tests.support.fleet import PERIOD_S, Fleet, TimeIsUp
from workers.locks import InstanceLocks

KEEP_S = 3600
STORE_TRIES = 20
"""Celery tries so often, a second apart, to store a result; then nobody hears of it."""
READY = ("SUCCESS", "FAILURE")


class ComesAgain(Exception):
    """The message was not dealt with and stays where it is. As `Reject(requeue=True)`."""


def result_key(operation_id: str) -> str:
    """Where the caller's AsyncResult looks."""
    return f"result:{operation_id}"


def outcome_for(operation: Operation, instance: Instance | None) -> Outcome | None:
    """As `Teller.outcome_for`, with the state for all of the payload."""
    del instance
    if operation.phase.settled:
        state = "SUCCESS" if operation.phase is Phase.SUCCEEDED else "FAILURE"
    elif operation.runner is None and any(record.do is not Mark.PENDING for record in operation.steps):
        return None
    else:
        state = "PROGRESS"
    return Outcome(key=result_key(operation.id), payload=state, keep_s=KEEP_S)


class StateOnly:
    """As `Teller` answers who asks about an image, with the state for all of the payload."""

    def answer_for(self, request_id: OperationId, result: Mapping[str, Any]) -> Outcome:
        del result
        return Outcome(key=result_key(request_id), payload="SUCCESS", keep_s=KEEP_S)

    def waiting_for(self, request_id: OperationId, reason: TaskvisorError) -> Outcome:
        del reason
        return Outcome(key=result_key(request_id), payload="RETRY", keep_s=KEEP_S)


class Work:
    """Runs messages on a fleet. `ports` are each host's, watched."""

    def __init__(
        self, fleet: Fleet, agenda: Agenda, story: Story, ports: Mapping[HostName, Ports], sweep: Sweep
    ) -> None:
        self._fleet = fleet
        self._agenda = agenda
        self._story = story
        self._ports = ports
        self._sweep = sweep
        self._settler = Settler(
            store=fleet.store, flows=FLOWS, now=fleet.clock.now, max_reschedules=2, tell=self._tell_of_ports
        )
        self._removals = RemovalSweep(
            store=fleet.store, send=self._send_removal, now=fleet.clock.now, period_s=PERIOD_S
        )

    def run(self, message: Message, process: Process) -> str:
        """Deal with the message; returns what became of it, in a word. Raises what the task would end with, or ComesAgain."""
        if message.task == STEP:
            return self._run_step(message, process)
        if message.task == SETTLE:
            following = self._settler.settle(OperationId(message.subject))
            if following is not None:
                self._agenda.launch(following)
            return "settled" if following is None else f"on to {following.id}"
        if message.task == REQUEST:
            return self._asked(message)
        if message.task == WISH:
            return self._wish(message)
        if message.task == SWEEP:
            return f"{self._sweep.run()} sent on, {self._removals.run()} images to be removed"
        if message.task == REMOVE:
            return "removed" if self._removal(process.node.host, message) else "not to be removed"
        if message.task in (REFRESH, CHECK):
            return self._look_at_networks(message, process)
        report = self._fleet.hosts[process.node.host].report
        if message.task == TRACK:
            report.track()
            return "tracked"
        assert message.task == SYNC, message
        return f"{report.sync_power_states()} synced"

    def _run_step(self, message: Message, process: Process) -> str:
        node, root = process.node, self._fleet.hosts[process.node.host].root
        runner = StepRunner(
            flows=FLOWS,
            journal=self._fleet.store.journal,
            ports=self._ports[node.host],
            exclusion=_SeenLocks(InstanceLocks(root / "locks" / "instances"), process),
            runner=Runner(host=node.host, incarnation=node.incarnation, pid=process.pid),
            time_up=(TimeIsUp,),
        )
        asked = StepMessage(
            operation_id=OperationId(message.subject), step=message.steps[0], direction=message.direction
        )
        return self._go_on(message, runner.run(asked))

    def _look_at_networks(self, message: Message, process: Process) -> str:
        host, root = process.node.host, self._fleet.hosts[process.node.host].root
        plugs = PlugCheck(
            store=self._fleet.store,
            host=host,
            ports=self._fleet.hosts[host].ports,  # as of the other ticks: faults befall steps
            exclusion=InstanceLocks(root / "locks" / "instances"),
        )
        if message.task == CHECK:
            return f"{plugs.check()} plugs restored"
        return f"{plugs.refresh(tuple(map(NetworkId, message.steps)))} networks refreshed"

    def _tell_of_ports(self, ports: tuple[Port, ...], *, aware: HostName | None = None) -> None:
        """As `NetworkTasks.tell_of_ports`: what could not be sent is the periodic look's."""
        with suppress(CannotAsk):
            tell_of_ports(self._fleet.store, self._ask_to_refresh, ports, aware=aware)

    def _ask_to_refresh(self, host: HostName, networks: tuple[NetworkId, ...]) -> None:
        self._agenda.send(Message(task=REFRESH, host=host, steps=networks))

    def _go_on(self, message: Message, following: Next) -> str:
        self._tell_of_ports(following.gone)
        if following.onward is Onward.CONTINUE and message.steps[1:]:
            self._agenda.send(replace(message, steps=message.steps[1:], due_at=0.0))
        if following.onward is Onward.SEND and following.operation is not None:
            self._agenda.launch(following.operation)
        error = f", {type(following.error).__name__}" if following.error is not None else ""
        ended = f", {following.ended.phase.value}" if following.ended is not None else ""
        return f"{following.dropped or following.onward}{error}{ended}"

    def _asked(self, message: Message) -> str:
        """As the edge's entry task, and what Celery does around it."""
        try:
            became, state = self._enter(message)
        except CannotAsk as silence:
            raise ComesAgain(str(silence)) from silence
        except TaskvisorError as refusal:
            self._store(message.subject, "FAILURE")
            raise refusal from None
        if state is not None:
            self._store(message.subject, state)
        return became

    def _enter(self, message: Message) -> tuple[str, str | None]:
        """As `Edge._enter`: what became of the request, and what Celery is to store under its id, if anything."""
        fields, operation_id = dict(message.fields), OperationId(message.subject)
        if self._shown(operation_id) in READY and self._fleet.store.catalog.read_operation(operation_id) is None:
            return "dropped: late", None
        try:
            answer = self._answer(fields.pop("task"), operation_id, fields)
        except IdInUse:
            return "dropped: the id is in use", None
        except Busy as busy:
            return self._again(message, busy.delay_s, TURNS_LIMIT, busy)
        except Conflicting as held:
            return self._again(message, TURN_S, ceil(fields.get("wait_turn_s", 0) / TURN_S), held)
        if isinstance(answer, Admitted):
            return self._admitted(answer), None
        if isinstance(answer, Answered):
            if answer.removing is not None:
                self._send_removal(answer.removing)
            return "answered", None
        return "already so", "SUCCESS"

    def _answer(self, task: str, operation_id: OperationId, fields: dict[str, Any]) -> Answer | Answered:
        door = ImageDoor(store=self._fleet.store, now=self._fleet.clock.now, answers=StateOnly())
        if task == "image.register":
            return door.register(operation_id, fields)
        if task == "image.delete":
            return door.delete(operation_id, fields)
        return self._fleet.answer(task, operation_id, fields)

    def _send_removal(self, image: Image) -> None:
        """As `ImageTasks.send_removal`: what could not be sent is the sweep's."""
        with suppress(CannotAsk):
            self._agenda.send(Message(task=REMOVE, subject=image.name, host=image.host, fields={"id": image.id}))

    def _removal(self, host: HostName, message: Message) -> bool:
        disks = self._ports[host].disks
        removal = ImageRemoval(store=self._fleet.store, disks=disks, host=host, answers=StateOnly())
        return removal.remove(message.subject, ImageId(message.fields["id"]))

    def _again(self, message: Message, delay_s: float, limit: int, reason: TaskvisorError) -> tuple[str, str | None]:
        if message.looks >= limit:
            raise reason
        self._show(message.subject, "RETRY")
        self._agenda.send(replace(message, looks=message.looks + 1, due_at=self._fleet.clock.now() + delay_s))
        return "looks again", None

    def _admitted(self, answer: Admitted) -> str:
        operation = answer.operation
        self._tell_of_ports(answer.come, aware=operation.host)
        if answer.stopping is not None:
            self._launch_or_leave(answer.stopping)
        if operation.phase.settled:
            self._show(operation.id, "SUCCESS" if operation.phase is Phase.SUCCEEDED else "FAILURE")
        else:
            self._launch_or_leave(operation)
        return f"admitted, {operation.phase.value} on {operation.host}"

    def _launch_or_leave(self, operation: Operation) -> None:
        """As the edge's: what could not be sent is the sweep's."""
        with suppress(CannotAsk):
            self._agenda.launch(operation)

    def _store(self, operation_id: str, state: str) -> None:
        """What Celery does when a task has ended, of which nothing is heard when Redis is away for too long."""
        try:
            self._show(operation_id, state)
        except CannotAsk:
            self._agenda.lost.add(operation_id)
            self._story.tell(f"     {state} could not be stored")

    def _show(self, operation_id: str, state: str) -> None:
        """As Celery's result back end: a SUCCESS that is there stays. CannotAsk when Redis is away for too long."""
        client: Any = self._fleet.client
        with asking("store a result"):
            if self._shown(operation_id) == "SUCCESS":
                return
            for left in reversed(range(STORE_TRIES)):
                try:
                    client.execute_command("SETEX", result_key(operation_id), KEEP_S, state)
                    return
                except redis.ConnectionError:
                    if not left:
                        raise
                    self._fleet.clock.sleep(1.0)

    def _shown(self, operation_id: str) -> str | None:
        client: Any = self._fleet.client
        with asking("read a result"):
            state: str | None = client.execute_command("GET", result_key(operation_id))
        return state

    def _wish(self, message: Message) -> str:
        door = self._fleet.door
        wish = door.cancel if message.fields["wish"] == "operation.cancel" else door.retry
        operation = wish(message.subject)
        if not operation.phase.settled:
            self._agenda.launch(operation)
        return f"{message.fields['wish']}: {operation.phase.value}"


class _SeenLocks:
    """The real locks. The process is known to be about an instance from when it asks for its lock."""

    def __init__(self, locks: InstanceLocks, process: Process) -> None:
        self._locks = locks
        self._process = process

    def hold(self, instance_id: InstanceId) -> AbstractContextManager[bool]:
        self._process.instance = instance_id
        return self._locks.hold(instance_id)


def sweep_for(fleet: Fleet, agenda: Agenda, reclaim: Any) -> Sweep:
    """The real sweep, whose messages go by the agenda."""
    return Sweep(store=fleet.store, launch=agenda.launch, reclaim=reclaim, now=fleet.clock.now, period_s=PERIOD_S)
