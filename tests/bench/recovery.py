"""`python -m tests.bench.recovery`: how soon work goes on after a death, by the journals of the operations it met.

Guests are simulated, so that what is measured is the finding and the going on, not a host's work. An operation *goes on*
when its journal shows the first try that began after the death; for each death the slowest operation that it met counts.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from uuid import uuid4

import pytest
from celery import Celery

from taskvisor.cli.nodes import STEPS
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.urls import celery_url_for
from taskvisor.state.hosts import Hosts
from tests.bench.__main__ import facts_of_this_machine, load_and_yardstick
from tests.bench.host import NotMeasured
from tests.bench.report import Row, milliseconds, p50, percentile, progress, table
from tests.deaths.hosts import Installation, MortalHost, running_installation

TRIALS = 20
IN_FLIGHT = 10
WAIT_LIMIT_S = 60.0
SWEEP_S = 2.0
LOOK_S = 0.005
CALLER_LOOK_S = 0.1
"""Ten callers that looked more often would be what is measured."""
RECOVERY_AIM_S = 2.0
BUILD = {"image": "simulated://debian?virtual_gib=1", "flavor": {"vcpus": 1, "memory_mib": 16, "disk_gib": 1}}
WORKER_LOST = "WorkerLost"


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Seconds from a death, or from what the name says, until the slowest of the operations that it met went on."""

    node_since_start_s: Sequence[float]
    node_since_up_s: Sequence[float]
    node_up_s: Sequence[float]
    """From the start of the node's process until it has said that it lives."""
    child_s: Sequence[float]
    message_s: Sequence[float]


def measure_recovery(trials: int = TRIALS) -> Recovery:
    """NotMeasured when an operation does not go on at all."""
    with running_installation(["simulated"], sweep_s=SWEEP_S) as installation, _load(installation) as chance:
        progress("a steps node dies")
        nodes = [_node_dies(installation, chance) for _ in _told(trials)]
        progress("a pool process dies")
        children = [_child_dies(installation, chance) for _ in _told(trials)]
        progress("the messages of a host are lost")
        messages = [_messages_vanish(installation, chance) for _ in _told(trials)]
    return Recovery(
        node_since_start_s=[since_start_s for since_start_s, _, _ in nodes],
        node_since_up_s=[since_up_s for _, since_up_s, _ in nodes],
        node_up_s=[up_s for _, _, up_s in nodes],
        child_s=children,
        message_s=messages,
    )


def _told(trials: int) -> Iterator[int]:
    for trial in range(1, trials + 1):
        yield trial
        if trial % 5 == 0:
            progress(f"{trial} of {trials}")


@contextmanager
def _load(installation: Installation) -> Iterator[Random]:
    """Builds and deletes are under way, ten at a time, until the block ends."""
    chance, stopped = Random(1), threading.Event()
    callers = [threading.Thread(target=_build_and_delete, args=(installation, stopped)) for _ in range(IN_FLIGHT)]
    for caller in callers:
        caller.start()
    try:
        yield chance
    finally:
        stopped.set()
        for caller in callers:
            caller.join(WAIT_LIMIT_S)


def _build_and_delete(installation: Installation, stopped: threading.Event) -> None:
    celery = Celery("bench", broker=celery_url_for(installation.server.url()), set_as_current=False)
    while not stopped.is_set():
        name = f"guest-{uuid4().hex[:12]}"
        for task, fields in (("instance.build", {"name": name, **BUILD}), ("instance.delete", {"instance": name})):
            operation_id = OperationId(str(uuid4()))
            celery.send_task(task, kwargs=fields, queue="compute", task_id=operation_id)
            _wait_for(lambda op=operation_id: _has_settled(installation, op), f"{task} to end", CALLER_LOOK_S)  # type: ignore[misc]
    celery.close()


def _has_settled(installation: Installation, operation_id: OperationId) -> bool:
    operation = installation.catalog.read_operation(operation_id)
    return operation is not None and operation.phase.settled


def _node_dies(installation: Installation, chance: Random) -> tuple[float, float, float]:
    """Seconds until all that was unsettled went on, since the start of the new process and since it was up; and between."""
    _time_passes(chance.uniform(0.5, 1.5))
    host, hosts = installation.hosts[0], Hosts(installation.redis, installation.keys)
    former = hosts.read_incarnation(HostName(host.name))
    host.kill(STEPS)
    met = installation.catalog.list_unsettled_on(HostName(host.name))
    started_at = time.time()
    host.start(STEPS)
    _wait_for(lambda: hosts.read_incarnation(HostName(host.name)) not in (former, None), "the node to come up")
    up_at = time.time()
    went_on_at = max(_first_try_after(installation, operation_id, started_at) for operation_id in met)
    return went_on_at - started_at, went_on_at - up_at, up_at - started_at


def _child_dies(installation: Installation, chance: Random) -> float:
    """Seconds until what a pool process was running when it was killed went on."""
    _time_passes(chance.uniform(0.1, 0.5))
    host = installation.hosts[0]
    for _ in range(1000):
        operation = _being_run(installation, host)
        if operation.runner is None:
            continue
        died_at = time.time()
        with suppress(ProcessLookupError):
            os.kill(operation.runner.pid, signal.SIGKILL)
        lost = _try_lost_since(installation, operation.id, died_at)
        if lost is not None:
            return _first_try_after(installation, operation.id, died_at) - died_at
    raise NotMeasured("no pool process could be killed in the midst of a step")


def _being_run(installation: Installation, host: MortalHost) -> Operation:
    """An operation of which a step runs, as its record says."""
    found: list[Operation] = []

    def look() -> bool:
        for operation_id in installation.catalog.list_unsettled_on(HostName(host.name)):
            operation = installation.catalog.read_operation(operation_id)
            if operation is not None and operation.runner is not None:
                found.append(operation)
                return True
        return False

    _wait_for(look, "a step to run")
    return found[0]


def _try_lost_since(installation: Installation, operation_id: OperationId, died_at: float) -> float | None:
    """When the try that the death met had begun; None when its step was over before the signal came."""
    _wait_for(lambda: _has_settled(installation, operation_id), "the operation to end")
    operation = installation.catalog.read_operation(operation_id)
    tries = () if operation is None else operation.timeline
    return next(
        (entry.started_at for entry in tries if entry.outcome == WORKER_LOST and entry.ended_at > died_at), None
    )


def _messages_vanish(installation: Installation, chance: Random) -> float:
    """Seconds until operations whose message was in a deleted queue went on: those that did so no sooner than a sweep could."""
    _time_passes(chance.uniform(0.1, 2.0))
    host = installation.hosts[0]
    queue = f"host.{host.name}"
    _wait_for(lambda: installation.redis.delete(queue), "messages to lie in the queue")
    lost_at = time.time()
    met = installation.catalog.list_unsettled_on(HostName(host.name))
    return max(_first_try_after(installation, operation_id, lost_at) for operation_id in met) - lost_at


def _first_try_after(installation: Installation, operation_id: OperationId, since: float) -> float:
    """When the first try began that did so after that time; the time itself when the operation needed none."""
    _wait_for(lambda: _has_settled(installation, operation_id), "the operation to end")
    operation = installation.catalog.read_operation(operation_id)
    tries = () if operation is None else operation.timeline
    return min((entry.started_at for entry in tries if entry.started_at > since), default=since)


def _time_passes(seconds: float) -> None:
    over = time.monotonic() + seconds
    _wait_for(lambda: time.monotonic() >= over, "time to pass")


def _wait_for(true: Callable[[], object], what: str, look_s: float = LOOK_S) -> None:
    deadline = time.monotonic() + WAIT_LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise NotMeasured(f"waited {WAIT_LIMIT_S:g} s for {what}")
        time.sleep(look_s)


def table_of(recovery: Recovery) -> str:
    rows = [
        *_rows("steps node killed: since its new process started", recovery.node_since_start_s, RECOVERY_AIM_S),
        *_rows("  of that, until the node was up", recovery.node_up_s, None),
        *_rows("  since it was up (less than 0: before it had said so)", recovery.node_since_up_s, RECOVERY_AIM_S),
        *_rows("pool process killed", recovery.child_s, RECOVERY_AIM_S),
        *_rows(f"messages lost, sweep period {SWEEP_S:g} s", recovery.message_s, 2 * SWEEP_S),
    ]
    return table(
        f"D. Until work goes on after a death; {len(recovery.child_s)} deaths each, {IN_FLIGHT} operations under way",
        rows,
    )


def _rows(what: str, seconds: Sequence[float], aim_s: float | None) -> Sequence[Row]:
    slow = percentile(seconds, 95)
    return (
        Row(what=f"{what}, p50", value=milliseconds(p50(seconds))),
        Row(
            what=f"{what}, p95",
            value=milliseconds(slow),
            aim="" if aim_s is None else f"at most {milliseconds(aim_s)}",
            met=None if aim_s is None else slow <= aim_s,
        ),
    )


def main() -> int:
    """0 when all was measured, whatever came out; 1 with a sentence when it could not be."""
    try:
        print(facts_of_this_machine())
        print(table_of(measure_recovery(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)))
    except (NotMeasured, pytest.fail.Exception) as problem:  # fixtures speak pytest
        print(f"recovery: {problem}", file=sys.stderr)
        return 1
    print(load_and_yardstick("at the end"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
