"""Every line that a task writes says of which operation, instance, step and host it is, whoever's logger wrote it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery import Celery
from celery.signals import task_postrun, task_prerun

from taskvisor.settings import Settings
from workers import log_context
from workers.log_context import STEPS, context_of
from workers.logs import configure_logs

STEP = {"operation": "op-1", "instance": "web1"}
OF_STEP = {"op": "op-1", "instance": "web1", "flow": "instance.build", "step": "fetch_image", "host": "kvm7"}


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged in JSON; structlog, the root logger and Celery's signals are put back afterwards."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs(Settings(log_format="json", host="kvm7"))
    written = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    try:
        yield written
    finally:
        task_prerun.disconnect(log_context._bind)
        task_postrun.disconnect(log_context._unbind)
        structlog.contextvars.clear_contextvars()
        structlog.configure(**config)
        root.handlers = handlers
        root.setLevel(level)


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("logs", set_as_current=False, broker="memory://", backend="cache+memory://") as made:
        made.conf.task_store_eager_result = False
        yield made


def read(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_step_and_a_library_in_it_write_lines_that_bear_the_step(lines: io.StringIO, app: Celery) -> None:
    def fetch(**_: str) -> None:
        structlog.get_logger("ours").info("image_fetched", size=3)
        logging.getLogger("httpx").warning("slow %s", "server")

    app.task(fetch, name="build.fetch_image").apply(kwargs=STEP, task_id="m-1")

    ours, theirs = read(lines)
    assert OF_STEP.items() <= ours.items()
    assert (ours["event"], ours["size"], ours["level"]) == ("image_fetched", 3, "info")
    assert OF_STEP.items() <= theirs.items()
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("slow server", "httpx", "warning")


def test_celerys_own_line_about_a_step_that_failed_bears_the_step(lines: io.StringIO, app: Celery) -> None:
    def fail(**_: str) -> None:
        raise RuntimeError("no room")

    app.task(fail, name="build.fetch_image").apply(kwargs=STEP, task_id="m-1")

    (line,) = read(lines)
    assert {**OF_STEP, "task_id": "m-1", "logger": "celery.app.trace", "level": "error"}.items() <= line.items()
    assert "no room" in line["exception"]


def test_what_is_written_after_a_task_bears_nothing_of_it(lines: io.StringIO, app: Celery) -> None:
    def fetch(**_: str) -> None:
        pass

    app.task(fetch, name="build.fetch_image").apply(kwargs=STEP)

    logging.getLogger("kombu").warning("idle")

    (line,) = read(lines)
    assert set(line) == {"event", "host", "level", "logger", "timestamp"}
    assert line["host"] == "kvm7"


def test_a_line_that_speaks_of_another_host_says_which(lines: io.StringIO) -> None:
    structlog.get_logger("ours").warning("host_fell_silent", host="kvm9")

    assert read(lines)[0]["host"] == "kvm9"


def test_what_celery_says_of_a_task_in_the_parent_bears_its_id(lines: io.StringIO) -> None:
    logging.getLogger("celery.worker.request").error("died", extra={"data": {"id": "m-1", "name": "build.fetch_image"}})

    (line,) = read(lines)
    assert (line["task"], line["task_id"]) == ("build.fetch_image", "m-1")


def test_a_request_bears_its_operation_and_what_it_is_about() -> None:
    assert context_of("instance.build", "op-1", {"name": "web1"}) == {
        "task": "instance.build",
        "task_id": "op-1",
        "op": "op-1",
        "instance": "web1",
    }
    assert context_of("host.track", "t-1", {"instance": "x"}) == {"task": "host.track", "task_id": "t-1"}


def test_a_message_binds_nothing_but_short_texts() -> None:
    hostile = {"operation": {"a": 1}, "instance": "x" * 10_000}

    bound = context_of("build.fetch_image", "m-1", hostile)

    assert "op" not in bound
    assert len(bound["instance"]) == log_context.TEXT_LIMIT


def test_every_step_both_ways_is_known() -> None:
    assert STEPS["build.fetch_image"] == STEPS["build.fetch_image.undo"] == ("instance.build", "fetch_image")
