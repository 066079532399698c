"""What an end leaves, when who was to follow is not there any more."""

from taskvisor.model.states import Phase
from tests.flow.toys import Bench, Script
from tests.support.fleet import KEYS


def test_one_that_was_stopped_for_an_operation_that_is_gone_lets_go(bench: Bench, script: Script) -> None:
    """Its record has been deleted by hand, say. Nobody else would ever give the lease back."""
    bench.accept()
    bench.deliver(messages=1)
    bench.fleet.client.delete(KEYS.operation(bench.preempt().id))

    bench.fleet.post.deliver_all()

    assert (bench.op().phase, bench.lease(), script.effects) == (Phase.CANCELLED, None, ["a"])
