"""Every kind of fault that a simulation makes, by the name under which it can be left out (`--without`)."""

import random
from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.errors import Busy, CannotAsk, Contradiction, DoesNotFit, Refused, Retryable


class Fault(StrEnum):
    CHILD_DEATH = "child-death"  # a pool process dies at a call to a port or to Redis, before or after it
    UNNOTICED = "unnoticed"  # and its message does not come again, nor does its parent look
    NODE_DEATH = "node-death"
    POWER_CUT = "power-cut"  # of a host: its nodes die, its guests are off
    REDIS_RESTART = "redis-restart"
    LOST_WRITES = "lost-writes"  # Redis comes back as it was up to a second before
    ANSWER_LOST = "answer-lost"  # Redis did it, and nobody hears of it
    REPEATED_CALL = "repeated-call"  # the client did not hear the answer, and asked again
    MESSAGE_LOST = "message-lost"
    MESSAGE_DOUBLED = "message-doubled"
    MESSAGE_DELAYED = "message-delayed"
    DOUBLE_BEAT = "double-beat"
    SLOW = "slow"  # a step takes seconds, or more than it may
    FAILING = "failing"  # a port raises one of the classes that a step may raise, or a bug's
    CONTRADICTION = "contradiction"
    INTERLEAVED = "interleaved"  # others go on while a process is held up at a call
    GUEST_OFF = "guest-off"  # a guest powers itself off


ALL_FAULTS = tuple(Fault)
FAILURES: tuple[type[Exception], ...] = (Refused, Retryable, DoesNotFit, CannotAsk, Busy, RuntimeError)
AT_A_STEP = {
    Fault.INTERLEAVED: 8,
    Fault.CHILD_DEATH: 3,
    Fault.SLOW: 2,
    Fault.FAILING: 5,
    Fault.CONTRADICTION: 0.3,
}
"""How likely each is, of what may happen when a process calls a port."""
AT_A_CALL = {Fault.INTERLEAVED: 8, Fault.CHILD_DEATH: 2, Fault.ANSWER_LOST: 1.5, Fault.REPEATED_CALL: 1.5}
"""And when it calls Redis."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Which faults a run has, and how likely they are at each call."""

    enabled: frozenset[Fault]
    rate: float

    def __contains__(self, fault: Fault) -> bool:
        return fault in self.enabled

    def pick(self, rng: random.Random, likely: dict[Fault, float]) -> Fault | None:
        """Mostly None; else one of the enabled faults."""
        if rng.random() >= self.rate:
            return None
        choice: Fault = rng.choices(list(likely), list(likely.values()))[0]
        return choice if choice in self.enabled else None


def weather_for(rng: random.Random, without: frozenset[Fault]) -> Weather:
    """Each run has about two thirds of the faults: what one of them would hide, another run shows."""
    enabled = frozenset(fault for fault in ALL_FAULTS if rng.random() < 0.65)
    return Weather(enabled=enabled - without, rate=rng.choice((0.01, 0.03, 0.06)))


def failure_for(rng: random.Random) -> Exception:
    """What a port raises."""
    return rng.choice(FAILURES)("injected")


def contradiction() -> Exception:
    return Contradiction("injected: this is somebody else's")
