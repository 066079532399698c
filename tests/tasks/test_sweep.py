"""The sweep, when something is in its way."""

from dataclasses import replace

from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from tests.support.fleet import PERIOD_S, Fleet


def test_one_operation_that_cannot_be_sent_does_not_keep_the_others_from_being_sent(fleet: Fleet) -> None:
    """One of a flow that a newer version knows, say: it has no task here."""

    def launch(operation: Operation) -> None:
        if operation.id == "build-first":
            raise KeyError(operation.flow)
        fleet.post.launch(operation)

    for name in ("first", "second"):
        fleet.begin_build(name)
    fleet.post.chains.clear()
    fleet.clock.sleep(PERIOD_S)

    assert replace(fleet.sweep, launch=launch).run() == 1

    fleet.post.deliver_all()
    assert fleet.read("build-first").phase is Phase.RUNNING
    assert fleet.read("build-second").phase is Phase.SUCCEEDED
