"""Each way of taking a snapshot under every crash test that flows have: asked for cold, of a guest that runs; and raw.

The way that is taken when nothing is said is among the flows of those tests already.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.snapshot import SnapshotFlow
from tests.support import harness as harnesses
from tests.support.crash_fixtures import no_logs
from tests.support.harness import Harness
from tests.tasks.test_crash_messages import (
    test_any_one_message_may_be_lost,
    test_every_message_ever_sent_may_come_late,
    test_every_message_may_come_twice,
)
from tests.tasks.test_crash_rollback import (
    before,
    test_a_refusal_before_or_after_any_call_to_a_port_is_taken_back,
    test_a_roll_back_from_any_step_that_dies_anywhere_gets_to_its_end,
    test_a_step_that_always_kills_its_worker_is_given_up_and_taken_back,
    test_a_step_that_is_refused_is_taken_back_with_all_before_it,
    test_an_undo_that_always_kills_its_worker_ends_stuck_and_goes_on_when_it_is_mended,
    unharmed,
)
from tests.tasks.test_crashes import (
    test_a_worker_that_dies_again_and_again_gets_there_or_gives_up_cleanly,
    test_a_worker_that_dies_anywhere_is_carried_on_by_the_sweep_alone,
    test_a_worker_that_dies_anywhere_is_carried_on_to_the_unharmed_end,
    test_an_operation_that_died_anywhere_and_is_cancelled_ends,
)

__all__ = [
    "before",
    "no_logs",
    "test_a_refusal_before_or_after_any_call_to_a_port_is_taken_back",
    "test_a_roll_back_from_any_step_that_dies_anywhere_gets_to_its_end",
    "test_a_step_that_always_kills_its_worker_is_given_up_and_taken_back",
    "test_a_step_that_is_refused_is_taken_back_with_all_before_it",
    "test_a_worker_that_dies_again_and_again_gets_there_or_gives_up_cleanly",
    "test_a_worker_that_dies_anywhere_is_carried_on_by_the_sweep_alone",
    "test_a_worker_that_dies_anywhere_is_carried_on_to_the_unharmed_end",
    "test_an_operation_that_died_anywhere_and_is_cancelled_ends",
    "test_an_undo_that_always_kills_its_worker_ends_stuck_and_goes_on_when_it_is_mended",
    "test_any_one_message_may_be_lost",
    "test_every_message_ever_sent_may_come_late",
    "test_every_message_may_come_twice",
    "unharmed",
]

pytestmark = pytest.mark.crash

WAYS = {
    "cold": {"method": "cold"},
    "raw": {"method": "live", "quiesce": "required", "format": "raw"},
}


@pytest.fixture(params=WAYS)
def harness(
    request: pytest.FixtureRequest, redis_url: str, memory_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A harness for the snapshot, asked for in that way."""
    monkeypatch.setitem(harnesses.EXTRA, SnapshotFlow.name, {"image": "gold", **WAYS[request.param]})
    opened = Harness(SnapshotFlow(), redis_url, memory_dir)
    yield opened
    opened.close()


def test_each_way_does_to_its_guest_what_the_tests_above_are_to_take_back(harness: Harness) -> None:
    """Else the tests above would say nothing of that."""
    facts = harness.unharmed().outcome["facts"]
    assert facts["suspend_guest"] == {"suspended": not facts["copy_disk"]["live"]}
    assert facts["copy_disk"]["live"] == facts["copy_disk"]["quiesced"]
