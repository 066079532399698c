"""What the records say of a request whose result says nothing: how it ended, or why it does not go on. Read, never changed."""

from typing import Any

from taskvisor.client.handle import Outcome, error_of
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from taskvisor.state.catalog import Catalog
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.takers import Takers, read_takers

START = "start one with `taskvisor worker`"


def outcome_of(operation: Operation) -> Outcome[object] | None:
    """How it ended, as its result said it before that expired; None while it has not ended."""
    if not operation.phase.settled:
        return None
    if operation.phase is Phase.SUCCEEDED:
        return Outcome(state="SUCCESS", result=operation.result)
    failure = operation.failure
    if failure is None:
        return Outcome(state="FAILURE", error=error_of("", "the operation ended without a reason"))
    return Outcome(state="FAILURE", error=error_of(failure.code, f"{failure.step}: {failure.message}"))


def why_it_waits(client: Any, keys: Keys, operation_id: str) -> str:
    """Why a request may not go on by itself, and what to do; empty when nothing speaks against it. CannotAsk."""
    operation = Catalog(client, keys).read_operation(OperationId(operation_id))
    if operation is None:
        return _of_unknown(read_takers(client, keys))
    if operation.phase.settled or Hosts(client, keys).read_incarnation(operation.host) is not None:
        return ""
    return (
        f"host {operation.host} is down: it goes on by itself once `taskvisor worker` runs there again; wait for that, or"
        f" cancel it with `taskvisor ops cancel {operation_id}` and ask for another host"
    )


def _of_unknown(takers: Takers) -> str:
    if not takers.hosts:
        return f"no host has ever reported to this Redis, so nobody takes requests: {START}, or check the URL and its database"
    if len(takers.silent) == len(takers.hosts):
        shown = ", ".join(takers.silent[:5]) + (", …" if len(takers.silent) > 5 else "")
        return (
            f"no worker takes requests: every host is down ({shown}), and {takers.waiting} wait in the queue; {START}"
        )
    if takers.waiting:
        return f"{takers.waiting} requests wait in the queue: busy hosts take them one after the other; wait, or add a host"
    return (
        "nobody knows of it: nothing was asked under that id, or it ended so long ago that result and record have expired;"
        " see `taskvisor ops list`, or ask again under the same id"
    )
