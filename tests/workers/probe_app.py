"""A Celery app for the transport's tests: its tasks leave their traces in files, so that they need no Redis to be seen.

Started by `tests.workers.conftest` as a subprocess, with what it needs in the environment.
"""

# mypy: allow-untyped-decorators

import os
import time
from pathlib import Path

import billiard.pool
from celery import Celery

from workers.transport import broker_url_for, transport_options_for

TRACES = Path(os.environ["PROBE_DIR"])
GATE_DEADLINE_S = 60.0

# In a warm shutdown under load the parent now and then joins its children before it has read their last results, and each
# child waits for that up to 300 times 0.1 s (on the stock transport as well: 6 of 30 shutdowns). Spares the tests the wait.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10

STOCK = os.environ.get("PROBE_TRANSPORT") == "stock"
URL = os.environ["PROBE_REDIS_URL"]

app = Celery("probe", broker=URL if STOCK else broker_url_for(URL))
app.conf.update(
    broker_transport_options={} if STOCK else transport_options_for(os.environ["PROBE_CONSUMER"]),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_enable_prefetch_count_reduction=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_remote_control=True,
    accept_content=["json"],
    result_backend=None,
)


def _trace(line: str) -> None:
    with (TRACES / "ran").open("a") as traces:  # one write of a short line in append mode is atomic
        traces.write(line + "\n")


@app.task(name="probe.note")
def note(name: str) -> None:
    _trace(name)


@app.task(name="probe.nothing")
def nothing(name: str) -> None:
    """For measuring."""


@app.task(name="probe.hold")
def hold(name: str) -> None:
    """Run until the test opens the gate."""
    _trace(f"{name} began")
    deadline = time.monotonic() + GATE_DEADLINE_S
    while not (TRACES / f"open-{name}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    _trace(f"{name} ended")


@app.task(name="probe.pass_on", bind=True)
def pass_on(self: object, queue: str, names: list[str]) -> None:
    """Publish from a pool child."""
    for name in names:
        app.send_task("probe.note", args=[name], queue=queue)
