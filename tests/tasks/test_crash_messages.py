"""Every message of every flow twice, late, after the end, after a delete, to two workers at once, or not at all."""

import threading

import pytest

from taskvisor.flow.runner import Dropped, Next
from taskvisor.model.errors import Refused
from taskvisor.model.states import Direction
from tests.support.crash_fixtures import harness, no_logs
from tests.support.fleet import Fleet
from tests.support.harness import MOMENTS_LIMIT, Harness, end_of, mend, sweep_until_ended
from tests.support.post import Chain
from tests.support.spies import WATCHED, Moment, RaiseAt, with_spied_step
from tests.support.world import read_everything, read_hosts

__all__ = ["harness", "no_logs"]

pytestmark = pytest.mark.crash

THREAD_LIMIT_S = 60.0
RACES = 4


def next_chain(*fleets: Fleet) -> Chain | None:
    """What is due first in these fleets' posts."""
    chains = [chain for fleet in fleets for chain in fleet.post.chains]
    return min(chains, key=lambda chain: chain.due_at) if chains else None


def deliver_all_of(fleet: Fleet) -> list[Chain]:
    """Deliver until the post is empty. Returns what was delivered."""
    sent = []
    while chain := next_chain(fleet):
        sent.append(chain)
        fleet.post.deliver(chain)
    return sent


def begun(harness: Harness, *, refused: bool) -> Fleet:
    """The flow is asked for; `refused`: its last step says no when it has had its effect, so that all is rolled back."""
    refusal = RaiseAt(Moment.AFTER, lambda: Refused("no"))
    flow = with_spied_step(harness.flow, harness.flow.steps[-1].name, Direction.DO, refusal)
    fleet = harness.open_fleet(flow if refused else None)
    harness.begin(fleet)
    return fleet


@pytest.mark.parametrize("refused", [False, True], ids=["done", "rolled_back"])
def test_every_message_may_come_twice(harness: Harness, refused: bool) -> None:
    fleet = begun(harness, refused=refused)
    fleet.post.deliver_all()
    unharmed = end_of(fleet)
    fleet.close()

    fleet = begun(harness, refused=refused)
    while chain := next_chain(fleet):
        fleet.post.deliver(chain)
        fleet.post.deliver(chain)

    assert end_of(fleet) == unharmed
    fleet.close()


@pytest.mark.parametrize("refused", [False, True], ids=["done", "rolled_back"])
def test_every_message_ever_sent_may_come_late(harness: Harness, refused: bool) -> None:
    fleet = begun(harness, refused=refused)
    fleet.post.deliver_all()
    unharmed = end_of(fleet)
    fleet.close()

    fleet, sent = begun(harness, refused=refused), []
    while chain := next_chain(fleet):
        sent.append(chain)
        for late in reversed(sent):
            fleet.post.deliver(late)

    assert end_of(fleet) == unharmed
    fleet.close()


@pytest.mark.parametrize("refused", [False, True], ids=["done", "rolled_back"])
def test_a_message_that_comes_after_the_end_or_after_a_delete_changes_nothing(harness: Harness, refused: bool) -> None:
    fleet = begun(harness, refused=refused)
    sent = deliver_all_of(fleet)
    require_nothing_changes(fleet, sent)
    if fleet.store.catalog.find_instance("web") is not None:
        mend(fleet)
        fleet.ask("instance.delete", "the-delete", instance="web")
        assert fleet.store.catalog.find_instance("web") is None
        require_nothing_changes(fleet, sent)
    fleet.close()


def require_nothing_changes(fleet: Fleet, late: list[Chain]) -> None:
    assert late
    store, hosts = read_everything(fleet.client), read_hosts(fleet)
    for chain in late:
        fleet.post.deliver(chain)
    assert fleet.post.chains == []
    assert (read_everything(fleet.client), read_hosts(fleet)) == (store, hosts)


def test_any_one_message_may_be_lost(harness: Harness) -> None:
    unharmed = harness.unharmed()
    for lost in range(MOMENTS_LIMIT):
        fleet = harness.open_fleet()
        harness.begin(fleet)
        for _ in range(lost):
            if chain := next_chain(fleet):
                fleet.post.deliver(chain)
        was_sent = bool(fleet.post.chains)
        fleet.post.chains.clear()
        sweep_until_ended(fleet)
        assert end_of(fleet).but_for_facts == unharmed.but_for_facts, f"message {lost} was lost"
        fleet.close()
        if not was_sent:
            break
    assert lost >= len(harness.flow.steps)


class TwinComes:
    """At the n-th moment of a run, another worker is given the very message that this one deals with."""

    def __init__(self, fleet: Fleet, twin: Fleet, number: int) -> None:
        self._fleet = fleet
        self._twin = twin
        self._number = number
        self.chain: Chain | None = None
        self.moments = 0
        self.came_at: str | None = None
        self.answer: Next | None = None

    def __call__(self, name: str, moment: Moment) -> None:
        self.moments += 1
        if self.moments != self._number:
            return
        self.came_at = f"{moment} {name}"
        thread = threading.Thread(target=self._deliver)
        thread.start()
        thread.join(THREAD_LIMIT_S)
        assert not thread.is_alive(), f"the twin hangs that came {self.came_at}"

    def _deliver(self) -> None:
        assert self.chain is not None
        self._twin.clock.advance_to(self._fleet.clock.now())
        self.answer = self._twin.post.deliver(self.chain)

    @property
    def must_be_dropped(self) -> bool:
        """The first worker was within its step then, and held the instance's lock."""
        return (self.came_at or "").split(" ")[-1].partition(".")[0] in WATCHED


def test_a_second_worker_that_is_given_the_message_at_any_moment_of_the_first_changes_nothing(harness: Harness) -> None:
    unharmed, dropped = harness.unharmed(), 0
    for number in range(1, MOMENTS_LIMIT):
        fleet, twin = harness.open_fleet(), harness.open_twin()
        harness.begin(fleet)
        spy = TwinComes(fleet, twin, number)
        fleet.watch(spy)
        while chain := next_chain(fleet):
            spy.chain = chain
            fleet.post.deliver(chain)
        twin.clock.advance_to(fleet.clock.now())
        twin.post.deliver_all()
        if spy.must_be_dropped:
            assert spy.answer is not None
            assert spy.answer.dropped is Dropped.TWIN_RUNNING, spy.came_at
            dropped += 1
        assert end_of(fleet) == unharmed, f"the twin came {spy.came_at} (moment {number})"
        fleet.close()
        twin.close()
        if spy.came_at is None:
            break
    assert dropped >= 2  # before and after a call at least


def test_two_workers_that_are_given_each_message_at_once_reach_the_same_end(harness: Harness) -> None:
    unharmed = harness.unharmed()
    for _ in range(RACES):
        fleet, twin = harness.open_fleet(), harness.open_twin()
        harness.begin(fleet)
        while chain := next_chain(fleet, twin):
            race(chain, fleet, twin)
        sweep_until_ended(fleet)  # a double that only looked may have held the lock when the true message came
        assert end_of(fleet).but_for_facts == unharmed.but_for_facts
        fleet.close()
        twin.close()


def race(chain: Chain, *fleets: Fleet) -> None:
    """Both deal with the message, beginning at the same moment."""
    now, start = max(fleet.clock.now() for fleet in fleets), threading.Barrier(len(fleets), timeout=THREAD_LIMIT_S)
    answered: list[Fleet] = []

    def deliver(fleet: Fleet) -> None:
        fleet.clock.advance_to(now)
        start.wait()
        fleet.post.deliver(chain)
        answered.append(fleet)

    threads = [threading.Thread(target=deliver, args=(fleet,)) for fleet in fleets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(THREAD_LIMIT_S)
    assert len(answered) == len(fleets), "a worker raised or hangs"
