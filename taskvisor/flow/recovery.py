"""Which operations have lost their message, by the journal alone.

The chain is the fast path; this is the guarantee. Sending an operation on once too often changes nothing, for the runner
judges every message; the pauses here only keep the queues clean.
"""

from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase

PAUSES_LIMIT = 6
"""The pause between two relaunches doubles so often: from one sweep period to 64."""


def is_overdue(operation: Operation, *, incarnation: str | None, period_s: float, now: float) -> bool:
    """True when nobody seems to carry the operation on.

    `incarnation` is that of the node that is alive on the operation's host; None when the host is silent: its messages
    wait in its queue, and its next start relaunches all that is unsettled there.
    """
    if operation.phase.settled or incarnation is None:
        return False
    if operation.not_before is not None and now < operation.not_before + period_s:
        return False
    if operation.runner is not None:
        lives = operation.runner.incarnation == incarnation
        return not lives or (operation.runner_until is not None and now > operation.runner_until)
    pause_s = period_s * (1 << min(operation.relaunches, PAUSES_LIMIT))
    return now - operation.updated_at >= pause_s


def was_run_by(operation: Operation, *, incarnation: str, dead_pids: frozenset[int]) -> bool:
    """True when its step was being run by one of these processes of this node, which are no more."""
    runner = operation.runner
    return runner is not None and runner.incarnation == incarnation and runner.pid in dead_pids


def wants_settling(operation: Operation) -> bool:
    """True when it is rolled back completely and only its end, or its next host, is missing."""
    return operation.phase is Phase.ROLLING_BACK and operation.current_step is None
