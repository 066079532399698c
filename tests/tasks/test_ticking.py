"""A periodic task is run in its turn, once at a time, and what came of it is recorded; whatever clocks and messages do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tasks.ticking import Ticker
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Counts, Punctuality, Run, Turn, punctuality_for
from taskvisor.state.ticks import RUNS_KEPT, Ticks
from tests.support.fleet import KEYS, Fleet
from workers.locks import HostTickLocks

H1, TASK, PERIOD_S = HostName("h1"), "host.track", 60.0


class Steady:
    """A clock that nobody sets."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def ticker(fleet: Fleet, memory_dir: Path, steady: Steady) -> Ticker:
    return Ticker(
        ticks=fleet.store.ticks,
        host=H1,
        turns=HostTickLocks(memory_dir / "ticks", steady=steady),
        now=fleet.clock.now,
        steady=steady,
    )


def works(steady: Steady, took_s: float = 2.0, **counts: int) -> Callable[[], Counts]:
    """Work that takes so long."""

    def work() -> Counts:
        steady.now_s += took_s
        return counts

    return work


def fails() -> Counts:
    raise CannotAsk("libvirtd does not answer")


def runs(fleet: Fleet, task: str = TASK) -> tuple[Run, ...]:
    return fleet.store.ticks.list_runs(H1, task)


def test_a_run_is_recorded_with_what_it_counted(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    assert ticker.run_here(TASK, works(steady, changed=3, nothing=0), PERIOD_S) is Turn.TAKEN

    began_at = fleet.clock.now()
    run = Run(task=TASK, host=H1, began_at=began_at, took_s=2.0, outcome=DONE, counts={"changed": 3}, period_s=PERIOD_S)
    assert runs(fleet) == (run,)
    assert fleet.store.ticks.list_last([H1]) == (run,)


def test_a_run_that_fails_is_recorded_and_fails(fleet: Fleet, ticker: Ticker) -> None:
    with pytest.raises(CannotAsk):
        ticker.run_here(TASK, fails, PERIOD_S)

    (run,) = runs(fleet)
    assert (run.outcome, run.reason) == ("CannotAsk", "libvirtd does not answer")
    assert fleet.store.counters.read()["ticks|host.track|CannotAsk"] == 1


def test_only_so_many_runs_are_kept(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    for number in range(RUNS_KEPT + 3):
        ticker.run_here(TASK, works(steady, number=number + 1))

    assert [run.counts["number"] for run in runs(fleet)] == list(range(RUNS_KEPT + 3, 3, -1))


def test_a_run_that_goes_on_is_not_begun_again(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    within: list[Turn] = []

    def work() -> Counts:
        steady.now_s += 10 * PERIOD_S
        within.append(ticker.run_here(TASK, fails, PERIOD_S))
        return {}

    ticker.run_here(TASK, work, PERIOD_S)

    assert within == [Turn.RUNNING]
    assert [run.outcome for run in runs(fleet)] == [DONE]
    assert fleet.store.counters.read()["ticks_skipped|host.track|running"] == 1


def test_messages_that_come_in_a_heap_begin_one_run(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    turns = [ticker.run_here(TASK, works(steady), PERIOD_S) for _ in range(5)]
    steady.now_s += PERIOD_S / 2
    turns.append(ticker.run_here(TASK, works(steady), PERIOD_S))

    assert turns == [Turn.TAKEN, *[Turn.TOO_SOON] * 4, Turn.TAKEN]


def test_what_is_wanted_now_is_run_though_one_was_just_begun(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    ticker.run_here(TASK, works(steady), PERIOD_S)

    assert ticker.run_here(TASK, works(steady)) is Turn.TAKEN
    assert [run.period_s for run in runs(fleet)] == [None, PERIOD_S]


def test_a_host_that_was_booted_begins_at_once(ticker: Ticker, steady: Steady) -> None:
    ticker.run_here(TASK, works(steady), PERIOD_S)
    steady.now_s = 3.0

    assert ticker.run_here(TASK, works(steady), PERIOD_S) is Turn.TAKEN


@pytest.mark.parametrize("jump_s", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_clock_that_jumps_neither_stops_nor_hastens_a_host(
    fleet: Fleet, ticker: Ticker, steady: Steady, jump_s: float
) -> None:
    ticker.run_here(TASK, works(steady), PERIOD_S)
    fleet.clock.jump(jump_s)
    assert ticker.run_here(TASK, works(steady), PERIOD_S) is Turn.TOO_SOON

    steady.now_s += PERIOD_S
    assert ticker.run_here(TASK, works(steady), PERIOD_S) is Turn.TAKEN


@pytest.mark.parametrize("period_s", [0, -1, float("nan"), float("inf"), 1e300, True, "often", [5]])
def test_what_is_no_period_is_refused_in_words(ticker: Ticker, period_s: object) -> None:
    with pytest.raises(Refused, match="must be a number of seconds"):
        ticker.run_here(TASK, fails, period_s)  # type: ignore[arg-type]


def test_what_can_not_be_recorded_is_done_all_the_same(fleet: Fleet, memory_dir: Path, steady: Steady) -> None:
    class Silent(Ticks):
        def note(self, run: Run) -> None:
            raise CannotAsk("Redis is away")

    silent = Ticker(
        ticks=Silent(fleet.client, KEYS),
        host=H1,
        turns=HostTickLocks(memory_dir / "ticks"),
        now=fleet.clock.now,
        steady=steady,
    )

    with capture_logs() as logged:
        assert silent.run_here(TASK, works(steady), PERIOD_S) is Turn.TAKEN

    assert [line["event"] for line in logged] == ["tick_not_recorded"]


def test_a_task_of_the_fleet_is_run_once_wherever_it_is_taken_up(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    within: list[Turn] = []

    def work() -> Counts:
        within.append(ticker.run_for_fleet("operation.sweep", fails, limit_s=60, period_s=PERIOD_S))
        return {}

    turn = ticker.run_for_fleet("operation.sweep", work, limit_s=60, period_s=PERIOD_S)
    again = ticker.run_for_fleet("operation.sweep", fails, limit_s=60, period_s=PERIOD_S)

    assert (turn, within, again) == (Turn.TAKEN, [Turn.RUNNING], Turn.TOO_SOON)


def test_a_task_of_the_fleet_that_failed_gives_its_turn_back(fleet: Fleet, ticker: Ticker, steady: Steady) -> None:
    with pytest.raises(CannotAsk):
        ticker.run_for_fleet("operation.sweep", fails, limit_s=60)

    assert ticker.run_for_fleet("operation.sweep", works(steady), limit_s=60) is Turn.TAKEN


@pytest.fixture
def ticks(fleet: Fleet) -> Ticks:
    return fleet.store.ticks


def test_the_turn_of_a_process_that_was_killed_expires(fleet: Fleet, ticks: Ticks) -> None:
    assert ticks.take_turn("operation.sweep", "dead", keep_s=60, soon_s=0) is Turn.TAKEN
    assert ticks.take_turn("operation.sweep", "next", keep_s=60, soon_s=0) is Turn.RUNNING
    assert 59_000 < fleet.client.pttl(KEYS.tick_turn("operation.sweep")) <= 60_000
    fleet.client.delete(KEYS.tick_turn("operation.sweep"))  # as Redis does then

    assert ticks.take_turn("operation.sweep", "next", keep_s=60, soon_s=0) is Turn.TAKEN


def test_a_turn_that_would_last_for_years_because_redis_was_put_back_in_time_holds_nobody_up(
    fleet: Fleet, ticks: Ticks
) -> None:
    for key in (KEYS.tick_turn("operation.sweep"), KEYS.tick_soon("operation.sweep")):
        fleet.client.set(key, "dead", px=4 * 365 * 86_400_000)

    assert ticks.take_turn("operation.sweep", "next", keep_s=60, soon_s=30) is Turn.TAKEN


def test_who_comes_late_takes_nobodys_turn_away(ticks: Ticks) -> None:
    ticks.take_turn("operation.sweep", "mine", keep_s=60, soon_s=0)

    ticks.give_back_turn("operation.sweep", "another")

    assert ticks.take_turn("operation.sweep", "next", keep_s=60, soon_s=0) is Turn.RUNNING


def run_at(began_at: float) -> Run:
    return Run(task=TASK, host=H1, began_at=began_at, took_s=1.0, outcome=DONE)


@pytest.mark.parametrize(
    ("run", "punctuality"),
    [
        (None, Punctuality.NEVER),
        (run_at(1000 - 2.9 * PERIOD_S), Punctuality.ON_TIME),
        (run_at(1000 - 3.1 * PERIOD_S), Punctuality.LATE),
        (run_at(1000 + 0.5 * PERIOD_S), Punctuality.ON_TIME),
        (run_at(1000 + 2 * PERIOD_S), Punctuality.AHEAD),
    ],
)
def test_a_run_is_judged_by_its_period(run: Run | None, punctuality: Punctuality) -> None:
    assert punctuality_for(run, period_s=PERIOD_S, late_periods=3, now=1000.0) is punctuality
