"""What befalls a process at a call to a port or to Redis: it dies, is held up, is told wrong things, or its time is over.

Knows the faults and nothing of what the process is doing.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis

from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.states import Direction
from tests.simulate.agenda import Agenda
from tests.simulate.faults import AT_A_CALL, AT_A_STEP, Fault, contradiction, failure_for
from tests.simulate.nodes import Process, Role
from tests.simulate.story import Story
from tests.support.clock import FakeClock
from tests.support.fleet import TimeIsUp
from tests.support.spies import Moment, WorkerDied

GRACE_S = 15.0
DEPTH_LIMIT = 3
HELD_UP_FOR = (1, 1, 2, 2, 3, 12)
"""So many events go by while a process is held up, at most: mostly few, at times so many that what it does is out of date."""
AHEAD_S = 30.0
"""While a process is held up, only what is due within that time happens."""


class Disturbance:
    """`stack` are the processes that have something in hand; all but the last are held up at a call."""

    def __init__(self, rng: random.Random, clock: FakeClock, agenda: Agenda, story: Story) -> None:
        self._rng = rng
        self._clock = clock
        self._agenda = agenda
        self._story = story
        self.stack: list[Process] = []
        self.blamed: dict[str, set[tuple[Fault, Direction]]] = defaultdict(set)
        """Which faults befell the messages of an operation, and which way it went."""
        self.runs: dict[str, list[tuple[str, Direction, str]]] = defaultdict(list)
        """The tries in which a step has called a port, by operation: step, direction and host."""
        self.crowded: list[tuple[InstanceId, HostName, HostName]] = []
        """Instances that two living processes were changing at once, and where."""
        self.calm = False
        self._touched: set[HostName] = set()

    def at_port(self, name: str, moment: Moment) -> None:
        """What `watched_ports` calls."""
        process = self.stack[-1]
        self._note_run(process)
        self._note_company(process)
        self.touch(process.node.host)
        self._befall(process, f"{moment} {name}")
        fault = self._pick(AT_A_STEP)
        if fault is Fault.SLOW:
            self._slow(process, name)
        elif fault in (Fault.FAILING, Fault.CONTRADICTION):
            error = failure_for(self._rng) if fault is Fault.FAILING else contradiction()
            self._tell(f"{moment} {name}: {type(error).__name__}", fault)
            raise error
        elif fault is not None:
            self._common(fault, process, f"{moment} {name}")
        self._befall(process, f"{moment} {name}")

    def touch(self, host: HostName) -> None:
        """Something may have changed on that host."""
        self._touched.add(host)

    def take_touched(self) -> list[HostName]:
        """The hosts that were touched since the last time."""
        touched, self._touched = sorted(self._touched), set()
        return touched

    def sleep(self, seconds: float) -> None:
        """A step sleeps: others go on meanwhile."""
        self._clock.sleep(seconds)
        if self.stack:
            self._befall(self.stack[-1], "asleep")

    def at_call(self, name: str, call: Callable[[], Any]) -> Any:
        """Every call to Redis."""
        if not self.stack:
            return call()
        process = self.stack[-1]
        self._befall(process, f"before {name}")
        fault = self._pick(AT_A_CALL)
        early = fault in (Fault.CHILD_DEATH, Fault.INTERLEAVED) and self._rng.random() < 0.5
        if fault is not None and early:
            self._common(fault, process, f"before {name}")
        if self._agenda.is_silent:
            self._note(Fault.REDIS_RESTART)
            raise redis.ConnectionError("injected: Redis is away")
        answer = call()
        if fault is Fault.ANSWER_LOST:
            self._tell(f"the answer of {name} is lost", fault)
            raise redis.ConnectionError("injected: the answer is lost")
        if fault is Fault.REPEATED_CALL:
            self._tell(f"{name} is repeated", fault)
            answer = call()
        elif fault is not None and not early:
            self._common(fault, process, f"after {name}")
        self._befall(process, f"after {name}")
        return answer

    def _pick(self, likely: dict[Fault, float]) -> Fault | None:
        return None if self.calm else self._agenda.weather.pick(self._rng, likely)

    def _common(self, fault: Fault, process: Process, where: str) -> None:
        if fault is Fault.CHILD_DEATH and process.role is not Role.PARENT:
            process.alive = False
            self._tell(f"process {process.pid} of {process.node.host} dies {where}", fault)
        elif fault is Fault.INTERLEAVED and len(self.stack) < DEPTH_LIMIT:
            self._story.tell(f"{self._indent}held up {where}:")
            self._hold_up()
        self._befall(process, where)

    def _hold_up(self) -> None:
        """Others go on, until a process that waits in the stack is dead: that is then unwound first."""
        for _ in range(self._rng.choice(HELD_UP_FOR)):
            if not all(process.alive for process in self.stack):
                return
            self._agenda.run_next(before=self._clock.now() + AHEAD_S)

    def _slow(self, process: Process, name: str) -> None:
        seconds = self._rng.choice((0.5, 2.0, 10.0, 40.0, 200.0))
        if self._rng.random() < 0.05 and process.until < float("inf"):
            seconds = process.until - self._clock.now() + self._rng.uniform(0.0, 2 * GRACE_S)
        self._tell(f"{name} takes {seconds:.1f} s", Fault.SLOW)
        self._clock.sleep(max(0.0, seconds))

    def _befall(self, process: Process, where: str) -> None:
        """What others did to it meanwhile: its node was killed, or its time is over."""
        if process.alive and self._clock.now() > process.until + GRACE_S:
            process.alive = False
            self._tell(f"process {process.pid} is killed {where}: far beyond its time", Fault.SLOW)
        if not process.alive:
            self._note(Fault.CHILD_DEATH)
            raise WorkerDied(where)
        if self._clock.now() > process.until and not process.told:
            process.told = True
            self._tell(f"time is up {where}", Fault.SLOW)
            raise TimeIsUp(where)

    def _note_run(self, process: Process) -> None:
        message = process.message
        if not process.ran and message is not None and message.steps:
            process.ran = True
            self.runs[message.subject].append((message.steps[0], message.direction, process.node.host))

    def _note_company(self, process: Process) -> None:
        for other in self.stack[:-1]:
            if other.alive and other.ran and process.instance is not None and other.instance == process.instance:
                self.crowded.append((process.instance, other.node.host, process.node.host))

    def _tell(self, line: str, fault: Fault) -> None:
        self._story.tell(f"{self._indent}{line}")
        self._note(fault)

    def _note(self, fault: Fault) -> None:
        message = self.stack[-1].message
        if message is not None:
            self.blamed[message.subject].add((fault, message.direction))

    @property
    def _indent(self) -> str:
        return "   " * len(self.stack)
