"""What is to happen, in order of time; and the messages that are under way, of which a crash may bring back or lose some."""

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from taskvisor.model.errors import CannotAsk
from taskvisor.model.operation import Operation
from tests.simulate.faults import Fault, Weather
from tests.simulate.post import CHECK, REQUEST, SWEEP, SYNC, TRACK, Message, launch_message
from tests.simulate.story import Story
from tests.support.clock import FakeClock

TICKS = (SWEEP, TRACK, SYNC, CHECK)


class Agenda:
    """Events with their times; among those of one time, the one that was noted first comes first."""

    def __init__(self, rng: random.Random, clock: FakeClock, story: Story) -> None:
        self._rng = rng
        self._clock = clock
        self._story = story
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._noted = 0
        self._sent = 0
        self.weather = Weather(enabled=frozenset(), rate=0.0)
        self.silent_until = 0.0
        """Until when Redis, which is also the broker, is away."""
        self.lost: set[str] = set()
        """Requests of which a message was lost, or the answer."""
        self.pending: dict[int, Message] = {}
        """Messages that nobody has acknowledged, by number."""
        self.deliver: Callable[[int], None] = lambda _: None

    @property
    def is_silent(self) -> bool:
        return self._clock.now() < self.silent_until

    def at(self, when: float, event: Callable[[], None]) -> None:
        """It happens at that time, or as soon after as the clock comes by."""
        self._noted += 1
        heapq.heappush(self._events, (when, self._noted, event))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self.at(self._clock.now() + seconds, event)

    def run_next(self, *, before: float = float("inf")) -> bool:
        """The next event, if it comes before that time; False when there is none."""
        if not self._events or self._events[0][0] > before:
            return False
        when, _, event = heapq.heappop(self._events)
        self._clock.advance_to(when)
        event()
        return True

    def launch(self, operation: Operation) -> None:
        """As `Edge.launch`."""
        message = launch_message(operation, self._clock.now())
        if message is not None:
            self.send(message)

    def send(self, message: Message) -> None:
        """The message is under way, unless a fault takes it. CannotAsk when the broker is away."""
        if self.is_silent:
            raise CannotAsk("the broker is away: the message was not sent")
        if message.task not in TICKS and self._happens(Fault.MESSAGE_LOST):
            self._lose(message)
            return
        copies = 2 if self._happens(Fault.MESSAGE_DOUBLED) else 1
        for _ in range(copies):
            delay_s = self._rng.uniform(0.001, 0.05)
            if self._happens(Fault.MESSAGE_DELAYED):
                delay_s += self._rng.uniform(1.0, 60.0)
            self._enter(replace(message, due_at=max(message.due_at, self._clock.now()) + delay_s))

    def put_back(self, kept: Mapping[int, Message]) -> None:
        """The broker holds these messages and no others: what was acknowledged since comes again, what was sent is gone."""
        for number, message in kept.items():
            if number not in self.pending:
                self._push(number, replace(message, due_at=self._clock.now()))
        for number, message in self.pending.items():
            if number not in kept:
                self._lose(message)
        self.pending = {number: self.pending.get(number, message) for number, message in kept.items()}

    def put_off(self, number: int, seconds: float) -> None:
        """The message, which is still pending, is taken later."""
        self.after(seconds, lambda: self.deliver(number))

    def acknowledge(self, number: int) -> None:
        self.pending.pop(number, None)

    def _enter(self, message: Message) -> None:
        self._sent += 1
        self.pending[self._sent] = message
        self._push(self._sent, message)

    def _push(self, number: int, message: Message) -> None:
        self.at(message.due_at, lambda: self.deliver(number))

    def _lose(self, message: Message) -> None:
        self._story.tell(f"   lost on its way: {message}")
        if message.task == REQUEST:
            self.lost.add(message.subject)

    def _happens(self, fault: Fault) -> bool:
        return self._rng.random() < 0.03 and fault in self.weather
