"""Redis forgets its last writes, as one that restarts without its last second: the journal is behind the host."""

from collections.abc import Iterator

import pytest

from tests.support.crash_fixtures import harness, no_logs
from tests.support.harness import MOMENTS_LIMIT, Harness, deliver_or_die, end_of, recover, sweep_until_ended
from tests.support.spies import Moment, WorkerDied

__all__ = ["harness", "no_logs"]

pytestmark = pytest.mark.crash

COMMIT = "journal.commit"


class Forgetful:
    """After the n-th commit the store is as it was before the last `lost` of them."""

    def __init__(self, harness: Harness, number: int, lost: int) -> None:
        self._harness = harness
        self._number = number
        self._lost = lost
        self._before: list[dict[bytes, bytes]] = []
        self.happened = False

    def __call__(self, name: str, moment: Moment) -> None:
        if name != COMMIT or self.happened:
            return
        if moment is Moment.BEFORE:
            self._before.append(self._harness.read_store())
        elif len(self._before) == self._number:
            self._harness.write_store(self._before[-self._lost])
            self.happened = True
            self.then()

    def then(self) -> None:
        """What happens to the worker: nothing."""


class ForgetfulAndDeadly(Forgetful):
    """The worker goes down with the store."""

    def then(self) -> None:
        raise WorkerDied(f"after commit {self._number}")


def each_loss(lost: int) -> Iterator[int]:
    return iter(range(lost, MOMENTS_LIMIT))


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_worker_that_dies_with_the_last_writes_of_the_store_is_carried_on(harness: Harness, lost: int) -> None:
    unharmed = harness.unharmed()
    for number in each_loss(lost):
        fleet, loss = harness.open_fleet(), ForgetfulAndDeadly(harness, number, lost)
        harness.begin(fleet)
        fleet.watch(loss)
        died = deliver_or_die(fleet)
        recover(fleet)
        assert end_of(fleet) == unharmed, f"{lost} writes were lost after commit {number}"
        fleet.close()
        if not died:
            break
    assert number >= 2 * len(harness.flow.steps)  # STARTED and DONE of each


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_worker_that_outlives_the_last_writes_of_the_store_does_them_again(harness: Harness, lost: int) -> None:
    unharmed = harness.unharmed()
    for number in each_loss(lost):
        fleet, loss = harness.open_fleet(), Forgetful(harness, number, lost)
        harness.begin(fleet)
        fleet.watch(loss)
        fleet.post.deliver_all()
        sweep_until_ended(fleet)
        what = f"{lost} writes were lost after commit {number}"
        assert end_of(fleet).but_for_facts == unharmed.but_for_facts, what
        fleet.close()
        if not loss.happened:
            break
    assert number >= 2 * len(harness.flow.steps)
