"""A round: ten callers ask, something dies again and again at moments drawn by a seed, and then the world is looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.deaths.account import account_of
from tests.deaths.blows import Death, pause, strike
from tests.deaths.callers import Caller, Life, Tally, Wish, life_for
from tests.deaths.hosts import Installation
from tests.deaths.remains import findings_of, problems_of
from tests.system.nodes import wait_until

CALLERS = 10
AFTER_S = 0.4
"""A death comes up to so long after an operation has ended, so that it meets others in any of their parts."""
ROUND_LIMIT_S = 240.0
REST_LIMIT_S = 45.0


@dataclass(frozen=True, kw_only=True)
class Survived:
    """What a round came to. `failed` are operations that ended otherwise than well, and cleanly."""

    deaths: int
    operations: int
    repeated: int
    failed: Sequence[str]
    running: int

    def __str__(self) -> str:
        return (
            f"{self.deaths} deaths survived by {self.operations} operations and {self.running} guests;"
            f" {self.repeated} requests repeated by their callers, {len(self.failed)} operations rolled back"
            + "".join(f"\n    {reason}" for reason in self.failed)
        )


def run_round(
    installation: Installation, deaths: Sequence[Death], *, name: str, seed: int, lives: int, build: Mapping[str, Any]
) -> Survived:
    """All that was asked for has become so, exactly, and after all is deleted nothing is left. AssertionError otherwise.

    `name` is in the names of the round's guests and images; with `seed` it says what happens in which order.
    """
    try:
        return _round(installation, deaths, f"{name}/{seed}", name, lives, build)
    except AssertionError as error:
        error.add_note(account_of(installation))
        raise


def _round(
    installation: Installation, deaths: Sequence[Death], about: str, name: str, lives: int, build: Mapping[str, Any]
) -> Survived:
    chance = Random(about)
    tally = Tally()
    plan = [_lives_of(name, number, lives, chance, build) for number in range(CALLERS)]
    callers = [Caller(installation, each, Random(f"{about}/{number}"), tally) for number, each in enumerate(plan)]
    total = sum(len(life.wishes) for each in plan for life in each)
    for caller in callers:
        caller.start()
    struck = _strike_all(installation, deaths, chance, tally, total, callers)
    _wait_for(callers, tally, about)
    operations, repeated = tally.ended, tally.sent - tally.ended
    kept = sorted(life.name for each in plan for life in each if life.kept)
    _require_at_rest(installation, kept, about)
    _delete_all(installation, kept, about)
    _require_at_rest(installation, [], about)
    return Survived(deaths=struck, operations=operations, repeated=repeated, failed=tally.failed, running=len(kept))


def _lives_of(name: str, number: int, lives: int, chance: Random, build: Mapping[str, Any]) -> list[Life]:
    return [
        life_for(f"{name}-{number}-{turn}", chance, build, kept=turn == lives - 1 and chance.random() < 0.6)
        for turn in range(lives)
    ]


def _strike_all(
    installation: Installation,
    deaths: Sequence[Death],
    chance: Random,
    tally: Tally,
    total: int,
    callers: Sequence[Caller],
) -> int:
    """Each death comes a moment after so many operations have ended, the moments spread over the round. Returns how many."""
    moments = sorted(chance.sample(range(max(len(deaths), total * 9 // 10)), len(deaths)))
    struck = 0
    for death, moment in zip(deaths, moments, strict=True):
        wait_until(_reached(tally, moment, callers), f"{moment} operations of {total} to end", ROUND_LIMIT_S)
        pause(chance.uniform(0, AFTER_S))
        struck += strike(death, installation, chance)
    return struck


def _reached(tally: Tally, moment: int, callers: Sequence[Caller]) -> Callable[[], bool]:
    return lambda: tally.ended >= moment or not any(caller.is_alive() for caller in callers)


def _wait_for(callers: Sequence[Caller], tally: Tally, about: str) -> None:
    wait_until(lambda: not any(caller.is_alive() for caller in callers), "all callers to be answered", ROUND_LIMIT_S)
    problems = [caller.problem for caller in callers if caller.problem is not None]
    assert problems == [], f"round {about}: {problems}"


def _require_at_rest(installation: Installation, wanted: Sequence[str], about: str) -> None:
    """What is periodic comes and goes for a while; then all is as it should be."""
    seen: list[str] = []

    def at_rest() -> bool:
        seen[:] = problems_of(installation, wanted) or findings_of(installation)
        return seen == []

    try:
        wait_until(at_rest, "nothing to be wrong", REST_LIMIT_S)
    except AssertionError as error:
        raise AssertionError(f"round {about}: {seen}") from error


def _delete_all(installation: Installation, names: Sequence[str], about: str) -> None:
    tally = Tally()
    ends = [
        Life(name=name, wishes=(Wish(task="instance.delete", fields={"instance": name}),), kept=False) for name in names
    ]
    callers = [
        Caller(installation, ends[number::CALLERS], Random(f"{about}/end/{number}"), tally) for number in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    _wait_for(callers, tally, about)
