"""What `Handle.follow` tells of an operation, and from where it goes on."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace

import pytest
import redis

from taskvisor.client import Taskvisor
from taskvisor.client.handle import StillRunning
from taskvisor.client.step_events import FROM_START, EventState, StepEvent, events_after
from taskvisor.model.errors import Cancelled, Refused
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from tests.cli.book import STEPS, Book, begun, ended, failed, instance, operation, succeeded
from tests.cli.fake_worker import Asked, FakeWorker
from tests.fixtures.redis_servers import OpenRedisServer

LIMIT_S = 60.0


def told(events: tuple[StepEvent, ...] | list[StepEvent]) -> list[tuple[str, str, str]]:
    return [(event.step, event.state.value, event.outcome) for event in events]


@pytest.fixture
def build() -> Operation:
    return operation("op", instance("web-1"))


def test_each_try_begins_and_ends_and_the_end_is_last(build: Operation) -> None:
    seen = ended(begun(build, "prepare_disk"), "prepare_disk")
    seen = ended(begun(seen, "fetch_image"), "fetch_image", "Retryable", "503")
    seen = failed(seen, step="fetch_image", code="OutOfTries", message="503 twice")

    events = events_after(FROM_START, seen)

    assert told(events) == [
        ("prepare_disk", "started", ""),
        ("prepare_disk", "ended", "done"),
        ("fetch_image", "started", ""),
        ("fetch_image", "ended", "Retryable"),
        ("fetch_image", "started", ""),
        ("fetch_image", "ended", "OutOfTries"),
        ("", "failed", "OutOfTries"),
    ]
    assert [(event.number, event.of) for event in events] == [(1, 5), (1, 5), *[(2, 5)] * 4, (5, 5)]
    assert events[3].message == "503"
    assert (events[-1].message, events[-1].is_end) == ("fetch_image: 503 twice", True)
    assert not any(event.is_end for event in events[:-1])
    with pytest.raises(FrozenInstanceError):
        events[0].step = "x"  # type: ignore[misc]


def test_what_runs_now_has_begun_and_not_ended(build: Operation) -> None:
    now = time.time()
    seen = replace(begun(build, "prepare_disk"), runner_since=now)
    assert told(events_after(FROM_START, seen)) == [("prepare_disk", "started", "")]


def test_from_each_cursor_on_nothing_comes_twice_and_nothing_is_left_out(build: Operation) -> None:
    seen = build
    for number, step in enumerate(STEPS):
        started = replace(begun(seen, step), steps=begun(seen, step).steps)
        done = ended(started, step)
        last = replace(done.timeline[-1], started_at=float(number), ended_at=number + 0.5)
        seen = replace(done, timeline=(*done.timeline[:-1], last))
    seen = succeeded(seen, instance("web-1"))

    events = events_after(FROM_START, seen)

    assert len(events) == 2 * len(STEPS) + 1
    for number, event in enumerate(events[:-1], 1):
        assert events_after(event.cursor, seen) == events[number:]
    assert told(events_after(events[-1].cursor, seen)) == [("", "succeeded", "")]
    assert events_after("nonesuch", seen) == events


def test_who_goes_on_from_the_end_is_told_what_a_retry_did_since(build: Operation) -> None:
    stuck = failed(build, step="prepare_disk", code="Contradiction", message="x", phase=Phase.STUCK)
    end = events_after(FROM_START, stuck)[-1]
    assert end.state is EventState.STUCK

    again = ended(
        begun(replace(stuck, phase=Phase.RUNNING, failure=None, settled_at=None), "prepare_disk"), "prepare_disk"
    )

    assert told(events_after(end.cursor, again))[-1] == ("prepare_disk", "ended", "done")


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url, timeout_s=2.0) as opened:
        yield opened


@pytest.fixture
def book(redis_url: str) -> Iterator[Book]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield Book(opened, "taskvisor:")


def test_a_follower_is_told_as_it_happens_and_can_go_on_later(client: Taskvisor, book: Book, build: Operation) -> None:
    book.put_operation(replace(begun(build, "prepare_disk"), runner_since=1.0))
    following = client.handle("op").follow(LIMIT_S)
    first = next(following)
    assert (first.step, first.state, first.at) == ("prepare_disk", EventState.STARTED, 1.0)

    done = ended(begun(build, "prepare_disk"), "prepare_disk")
    done = replace(done, timeline=(replace(done.timeline[0], started_at=1.0),))
    book.put_operation(done)
    assert next(following).outcome == "done"

    book.put_operation(succeeded(done, instance("web-1")))
    rest = list(following)
    assert rest[-1].state is EventState.SUCCEEDED
    assert list(client.handle("op").follow(LIMIT_S, after=first.cursor))[1:] == rest


def test_a_follower_whose_time_is_up_is_told_and_nothing_is_cancelled(
    client: Taskvisor, book: Book, build: Operation
) -> None:
    book.put_operation(replace(begun(build, "prepare_disk"), runner_since=1.0))
    seen: list[StepEvent] = []
    with pytest.raises(StillRunning):
        seen.extend(client.handle("op").follow(0))
    (now,) = client.handle("op")._events_after(FROM_START)
    assert now.state is EventState.STARTED


def test_a_follower_bears_a_redis_that_dies_and_comes_back(
    open_redis_server: OpenRedisServer, build: Operation
) -> None:
    server = open_redis_server(appendonly="yes")
    with redis.Redis.from_url(server.url(), decode_responses=True) as opened, Taskvisor(server.url()) as client:
        book = Book(opened, "taskvisor:")
        first = replace(begun(build, "prepare_disk"), runner_since=1.0)
        book.put_operation(first)
        following = client.handle("op").follow(LIMIT_S)
        assert next(following).step == "prepare_disk"
        server.kill()

        def come_back() -> None:
            server.start()
            book.put_operation(succeeded(build, instance("web-1")))

        back = threading.Timer(0.5, come_back)
        back.start()
        rest = list(following)
        back.join()
    assert told(rest)[-1] == ("", "succeeded", "")
    assert [event.step for event in rest if event.state is EventState.ENDED] == list(STEPS)


def test_a_request_that_becomes_no_operation_has_its_end_alone(client: Taskvisor, redis_url: str) -> None:
    def refuse(asked: Asked) -> object:
        raise Cancelled("x") if asked.fields["instance"] == "web-2" else Refused("there is none")

    answers = {"instance.stop": refuse, "instance.start": lambda _: {"already": True}}
    with FakeWorker(redis_url, answers):
        assert told(list(client.start("web-1").follow(LIMIT_S))) == [("", "succeeded", "")]
        (end,) = client.stop("web-1").follow(LIMIT_S)
        assert (end.state, end.outcome, end.message) == (EventState.FAILED, "Refused", "there is none")
        (end,) = client.stop("web-2").follow(LIMIT_S)
        assert end.state is EventState.CANCELLED


def test_retry_and_cancel_of_a_handle_are_wishes_about_its_operation(client: Taskvisor, redis_url: str) -> None:
    answers = {f"operation.{wish}": lambda asked: dict(asked.fields) for wish in ("cancel", "retry")}
    with FakeWorker(redis_url, answers) as worker:
        handle = client.handle("op")
        assert handle.retry().wait(LIMIT_S) == handle.cancel().wait(LIMIT_S) == {"operation": "op"}
        assert [asked.task for asked in worker.asked] == ["operation.retry", "operation.cancel"]
        assert handle.id == "op"


def test_a_follower_in_a_forked_child_sees_the_same(client: Taskvisor, book: Book, build: Operation) -> None:
    book.put_operation(succeeded(build, instance("web-1")))
    handle = client.handle("op")
    assert len(list(handle.follow(LIMIT_S))) == 2 * len(STEPS) + 1
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if len(list(handle.follow(LIMIT_S))) == 2 * len(STEPS) + 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
