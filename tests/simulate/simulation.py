"""One seed, one run: hosts, callers and faults on one agenda, with the invariants asked after each event and once at rest."""

import random
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import redis

from taskvisor.flow.ports import Ports
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.states import PowerState
from taskvisor.state.keys import Keys
from tests.simulate.agenda import TICKS, Agenda
from tests.simulate.callers import Callers
from tests.simulate.disturbance import Disturbance
from tests.simulate.faults import Fault, weather_for
from tests.simulate.invariants import Invariants
from tests.simulate.nodes import Node, Process, Role
from tests.simulate.post import CHECK, REMOVE, REQUEST, STEP, SWEEP, SYNC, TRACK, Message
from tests.simulate.rest import require_rest
from tests.simulate.store import Disk, Snapshot, hook
from tests.simulate.story import Story
from tests.simulate.views import ViewsOfProcesses
from tests.simulate.work import ComesAgain, Work, outcome_for, sweep_for
from tests.support.fleet import PERIOD_S, Fleet, TimeIsUp
from tests.support.spies import WorkerDied, watched_ports
from workers.host import HostNode

HOST_DOWN_S = 20.0
HEARTBEAT_S = 5.0
SYNC_S = 60.0
LOOK_FOR_DEATHS_S = 0.5
REST_LIMIT_S = 6 * 3600.0
"""Of simulated time: within it everything has come to an end once nothing more goes wrong."""
FAULT_EVERY_S = 12.0
REQUEST_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A run in which an invariant did not hold."""

    seed: int
    event: int
    invariant: str
    last: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run in which all of them held."""

    seed: int
    events: int
    digest: str


class Simulation:
    """A fleet on an empty database and an empty directory."""

    def __init__(
        self, seed: int, url: str, root: Path, *, without: frozenset[Fault] = frozenset(), story: Story | None = None
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.story = story or Story(aloud=False)
        hosts = ("h1", "h2", "h3", "h4")[: self.rng.randint(2, 4)]
        memory_mib = {host: self.rng.choice((128, 192, 320)) for host in hosts}
        self.fleet = Fleet(
            url, root, hosts=hosts, memory_mib=memory_mib, outcome_for=outcome_for, view_for=self._views_for
        )
        self.clock = self.fleet.clock
        self.nodes = {HostName(host): Node(host=HostName(host), heard_at=self.clock.now()) for host in hosts}
        self.agenda = Agenda(self.rng, self.clock, self.story)
        self.agenda.weather = weather_for(self.rng, without)
        self.agenda.deliver = self._deliver
        self.disturbance = Disturbance(self.rng, self.clock, self.agenda, self.story)
        self.work = Work(
            self.fleet, self.agenda, self.story, self._watched(), sweep_for(self.fleet, self.agenda, self._reclaim)
        )
        self.callers = Callers(self.rng, seed, hosts)
        self.disk = Disk(url)
        self.invariants = Invariants(self.fleet, url, self.disturbance)
        self.sent: set[str] = set()
        """Requests that callers could send."""
        self.events = 0
        self.processes = 0
        self.broken: str | None = None

    def run(self, events: int) -> Ended | Broken:
        """So many events in bad weather, then calm until nothing moves."""
        self._begin()
        try:
            while self.events < events and self.agenda.run_next():
                self.invariants.require()
            self._come_to_rest()
            require_rest(self.fleet, self.invariants, self.disturbance, asked=self.sent, lost=self.agenda.lost)
        except AssertionError as broken:
            last = tuple(self.story.last(30))
            return Broken(seed=self.seed, event=self.events, invariant=str(broken), last=last)
        finally:
            self.invariants.close()
            self.disk.close()
            self.fleet.close()
        return Ended(seed=self.seed, events=self.events, digest=self.story.digest)

    def _views_for(self, client: redis.Redis, keys: Keys) -> ViewsOfProcesses:
        return ViewsOfProcesses(client, keys, now=self._now, looking=self._looking)

    def _now(self) -> float:
        return self.clock.now()

    def _looking(self) -> Hashable:
        """Which process has something in hand and is not held up: its node's first of that role, or second, if one is held up."""
        *held_up, process = self.disturbance.stack
        node, role = process.node, process.role
        nth = sum(other.node is node and other.role is role for other in held_up)
        return node.host, node.starts, role, nth

    def _watched(self) -> dict[HostName, Ports]:
        clock = SimpleNamespace(now=self.clock.now, sleep=self.disturbance.sleep)
        return {
            host.name: replace(watched_ports(host.ports, self.disturbance.at_port), clock=cast(Any, clock))
            for host in self.fleet.hosts.values()
        }

    def _begin(self) -> None:
        for node in self.nodes.values():
            self._hear(node)
        self.disk.forget_scripts()
        hook(self.fleet.client, self.disturbance.at_call)
        self.story.tell(f"faults: {', '.join(sorted(self.agenda.weather.enabled)) or 'none'}")
        self.agenda.after(PERIOD_S, self._sweep)
        self.agenda.after(HEARTBEAT_S, self._heartbeats)
        self.agenda.after(SYNC_S, self._ticks)
        self.agenda.after(0.1, self._ask)
        self.agenda.after(self.rng.expovariate(1 / FAULT_EVERY_S), self._fault)

    def _come_to_rest(self) -> None:
        """No more faults and requests: everything is up, and goes on until nothing is under way."""
        self.story.tell("from here on nothing goes wrong")
        self.disturbance.calm = True
        self.agenda.weather = replace(self.agenda.weather, enabled=frozenset())
        for node in self.nodes.values():
            if not node.up:
                self.agenda.after(1.0, partial(self._start, node))
        limit = self.clock.now() + REST_LIMIT_S
        quiet_until, moving = self.clock.now(), list[str]()
        while self.clock.now() < quiet_until + 2 * SYNC_S + 1:
            assert self.clock.now() < limit, (
                f"no rest in {REST_LIMIT_S} s: {self.invariants.list_unsettled()}, {moving}"
            )
            self.agenda.run_next()
            self.invariants.require()
            moving = [str(message) for message in self.agenda.pending.values() if message.task not in TICKS]
            moving += self.invariants.list_going_images()
            if moving or self.invariants.list_unsettled():
                quiet_until = self.clock.now()

    def _tell(self, line: str) -> None:
        self.events += 1
        indent = "   " * len(self.disturbance.stack)
        self.story.tell(f"{self.events:4} {self.clock.now() - 1_700_000_000:9.2f} {indent}{line}")

    # What callers and beat do.

    def _ask(self) -> None:
        if self.disturbance.calm:
            return
        for message in self.callers.messages():
            fields = ", ".join(f"{name}={value}" for name, value in message.fields.items())
            self._tell(f"asked: {message.subject} {fields}")
            self._send(message)
        self.agenda.after(self.rng.expovariate(1 / REQUEST_EVERY_S), self._ask)

    def _send(self, message: Message) -> None:
        try:
            self.agenda.send(message)
        except TaskvisorError as silence:
            self.story.tell(f"     not sent: {silence}")
            return
        if message.task == REQUEST:
            self.sent.add(message.subject)

    def _sweep(self) -> None:
        for _ in range(2 if self._has(Fault.DOUBLE_BEAT) else 1):
            self._send(Message(task=SWEEP))
        self.agenda.after(PERIOD_S, self._sweep)

    def _ticks(self) -> None:
        for node in self.nodes.values():
            if node.up:
                self._send(Message(task=TRACK, host=node.host))
                self._send(Message(task=SYNC, host=node.host))
                self._send(Message(task=CHECK, host=node.host))
        self.agenda.after(SYNC_S, self._ticks)

    def _heartbeats(self) -> None:
        for node in self.nodes.values():
            if node.up and not self.agenda.is_silent:
                self._hear(node)
            elif self.clock.now() - node.heard_at > HOST_DOWN_S:
                self.invariants.forget_heartbeat(node.host)
        self.agenda.after(HEARTBEAT_S, self._heartbeats)

    def _hear(self, node: Node) -> None:
        node.heard_at = self.clock.now()
        self.invariants.note_heartbeat(node.host, node.incarnation)

    # What nodes do.

    def _deliver(self, number: int) -> None:
        message = self.agenda.pending.get(number)
        if message is None:
            return  # it has been acknowledged, or a crash of Redis has lost it
        process = self._process_for(message, number)
        if process is None:
            return
        self._tell(f"{message} by {process.node.host}/{process.pid}")
        try:
            became = self._run(process, message)
        except ComesAgain as silence:
            self.story.tell(f"     comes again: {silence}")
            self.agenda.put_off(number, self.rng.uniform(0.01, 0.1))
            return
        if became is None:
            self._after_death(process, message, number)
            return
        self.agenda.acknowledge(number)
        self.story.tell(f"     {'   ' * len(self.disturbance.stack)}{became}")

    def _process_for(self, message: Message, number: int) -> Process | None:
        """A process that takes the message; None when there is none yet: it is noted for later."""
        if self.agenda.is_silent:
            self.agenda.put_off(number, self.agenda.silent_until - self.clock.now() + self.rng.uniform(0.0, 1.0))
            return None
        if message.host is None:
            return self._control_process(message, number)
        node = self.nodes[message.host]
        if not node.up:
            node.waiting.append(number)
            return None
        if message.task != STEP:
            return self._process(node, Role.CONTROL, message, number, pid=0)
        busy = {process.pid for process in self.disturbance.stack if process.node is node}
        free = [pid for pid in node.pids if pid not in busy]
        if not free:
            self.agenda.put_off(number, 0.2)
            return None
        process = self._process(node, Role.STEPS, message, number, pid=free[0])
        process.until = self.clock.now() + self.invariants.time_limit_s(message)
        return process

    def _control_process(self, message: Message, number: int) -> Process | None:
        living = [node for node in self.nodes.values() if node.up]
        if not living:
            self.agenda.put_off(number, 1.0)
            return None
        return self._process(self.rng.choice(living), Role.CONTROL, message, number, pid=0)

    def _process(self, node: Node, role: Role, message: Message, number: int, *, pid: int) -> Process:
        return Process(node=node, role=role, message=message, number=number, pid=pid)

    def _run(self, process: Process, message: Message | None) -> str | None:
        """What became of it; None when the process died."""
        self.disturbance.stack.append(process)
        try:
            return self._parent_start(process.node) if message is None else self.work.run(message, process)
        except WorkerDied:
            return None
        except (TaskvisorError, TimeIsUp) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            self.disturbance.stack.pop()

    def _after_death(self, process: Process, message: Message, number: int) -> None:
        """The message comes again, if the transport and the parent do what they ought to."""
        node = process.node
        if number not in self.agenda.pending:
            return
        if not node.up or process.role is Role.PARENT:
            (node.waiting if process.role is Role.STEPS else node.in_flight).append(number)
            return
        if message.task == REMOVE:  # it must not come again if it killed its worker: the sweep asks anew
            self.agenda.acknowledge(number)
            self.story.tell("     lost with its process")
            return
        if message.task == STEP:
            node.replace_child(process.pid)
            if self._has(Fault.UNNOTICED) and self.rng.random() < 0.3:
                self.agenda.acknowledge(number)
                self.story.tell("     nobody notices")
                return
            self.agenda.after(LOOK_FOR_DEATHS_S, partial(self._look, node, node.starts, process.pid))
        self.agenda.put_off(number, self.rng.uniform(0.01, 0.4))

    def _look(self, node: Node, starts: int, pid: int) -> None:
        """The parent finds that a pool process has died."""
        if not node.up or node.starts != starts:
            return
        parent = Process(node=node, role=Role.PARENT, pid=-1)
        self.disturbance.stack.append(parent)
        try:
            sent = self._host_node(node).relaunch_after(frozenset({pid}))
            self._tell(f"{node.host} sees that {pid} died: {sent} sent on")
        except TaskvisorError as silence:
            self._tell(f"{node.host} looks for {pid} in vain: {silence}")
            self.agenda.after(LOOK_FOR_DEATHS_S, partial(self._look, node, starts, pid))
        except WorkerDied:
            self._tell(f"{node.host} dies while it looks for {pid}")
        finally:
            self.disturbance.stack.pop()

    def _start(self, node: Node) -> None:
        """As StartHost: init_host, then the heartbeat, then it consumes; when Redis is away it tries again."""
        if any(process.node is node for process in self.disturbance.stack):
            self.agenda.after(0.5, partial(self._start, node))
            return
        if node.up:
            return
        node.starts += 1
        node.up = True
        became = self._run(Process(node=node, role=Role.PARENT, pid=-1), None)
        self._tell(f"{node.host} starts: {became}")
        if became != "started":
            node.up = False
            self.agenda.after(1.0, partial(self._start, node))
            return
        waiting, node.waiting, node.in_flight = [*node.in_flight, *node.waiting], [], []
        for number in waiting:
            self.agenda.put_off(number, self.rng.uniform(0.01, 0.1))

    def _parent_start(self, node: Node) -> str:
        self._host_node(node).init_host()
        self._hear(node)
        self._send(Message(task=TRACK, host=node.host))
        self._send(Message(task=SYNC, host=node.host))
        self._send(Message(task=CHECK, host=node.host))
        return "started"

    def _host_node(self, node: Node) -> HostNode:
        """The real one, of which only the way to the store, the edge and the names are ours."""
        settings: Any = SimpleNamespace(host=node.host)
        opened: Any = SimpleNamespace(store=self.fleet.store, door=self.fleet.door)
        edge: Any = SimpleNamespace(launch=self.agenda.launch)
        host_node = HostNode(cast(Any, None), settings, edge, lambda: opened)
        host_node.incarnation = node.incarnation
        return host_node

    def _reclaim(self, host: HostName) -> int:
        """What `workers/inflight.py` does: requests in the hands of a silent host are put back."""
        node = self.nodes[host]
        numbers, node.in_flight = node.in_flight, []
        for number in numbers:
            self.agenda.put_off(number, 0.01)
        return len(numbers)

    # What goes wrong with more than one process.

    def _fault(self) -> None:
        if self.disturbance.calm:
            return
        self.agenda.after(self.rng.expovariate(1 / FAULT_EVERY_S), self._fault)
        faults = (Fault.NODE_DEATH, Fault.POWER_CUT, Fault.REDIS_RESTART, Fault.LOST_WRITES, Fault.GUEST_OFF)
        fault = self.rng.choice(faults)
        host = self.rng.choice(list(self.nodes))
        if not self._has(fault):
            return
        if fault is Fault.REDIS_RESTART:
            self._silence(self.rng.choice((0.5, 3.0, 10.0, 45.0)))
        elif fault is Fault.LOST_WRITES:
            self._save()
        elif fault is Fault.GUEST_OFF:
            self._power_off(host, 1)
        else:
            self._kill(self.nodes[host])
            if fault is Fault.POWER_CUT:
                self._power_off(host, 1000)

    def _silence(self, seconds: float) -> None:
        self._tell(f"Redis is away for {seconds:.1f} s")
        self.agenda.silent_until = self.clock.now() + seconds

    def _save(self) -> None:
        kept, pending = self.disk.take(), dict(self.agenda.pending)
        self._tell("Redis writes to its disk for the last time")
        crash = partial(self._crash, kept, pending, self.clock.now())
        self.agenda.after(self.rng.uniform(0.02, 1.0), crash)

    def _crash(self, kept: Snapshot, pending: dict[int, Message], saved_at: float) -> None:
        if self.clock.now() > saved_at + 2.0:
            self._tell("Redis has written to its disk again")
            return
        lost = self.invariants.read_all()
        changed = self.disk.put_back(kept)
        self.agenda.put_back(pending)
        excused = self.invariants.excuse(changed, lost)
        self._tell(f"Redis crashed and lost {self.clock.now() - saved_at:.2f} s, in which changed: {excused}")
        self.agenda.silent_until = self.clock.now() + self.rng.uniform(0.2, 4.0)

    def _kill(self, node: Node) -> None:
        if not node.up:
            return
        node.up = False
        for process in self.disturbance.stack:
            if process.node is node:
                process.alive = False
        self._tell(f"{node.host} is killed")
        self.agenda.after(self.rng.choice((0.5, 3.0, 30.0, 120.0)), partial(self._start, node))

    def _power_off(self, host: HostName, number: int) -> None:
        there = self.fleet.hosts[host]
        self.disturbance.touch(host)
        running = [
            domain.instance_id
            for domain in there.ports.hypervisor.list_domains()
            if domain.power_state is PowerState.RUNNING
        ]
        for instance_id in self.rng.sample(running, min(number, len(running))):
            there.outsider.ensure_power_state(InstanceId(instance_id), PowerState.SHUTDOWN)
            self._tell(f"guest {instance_id[:8]} on {host} is off")

    def _has(self, fault: Fault) -> bool:
        return fault in self.agenda.weather
