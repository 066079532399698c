"""The sender of webhooks as an operator runs it: a process over a real Redis, and receivers that fail, hang and die."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from taskvisor.state.webhooks import Webhooks
from tests.cli.book import Book, instance, operation
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import OpenRedisServer
from tests.system.nodes import running_nodes, wait_until
from tests.webhooks.receiver import KEY, SECRET, Got, Receiver, receiving

pytestmark = pytest.mark.real

STOP_LIMIT_S = 60.0
EVENT: dict[Any, Any] = {
    "op": "op",
    "flow": "instance.build",
    "instance": "i",
    "name": "n",
    "host": "h",
    "phase": "running",
    "step": "",
    "outcome": "",
    "at": "1",
}
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Iterator[Start]:
    """Starts a sender to these URLs; what still runs at the end is stopped by SIGTERM, which it must heed."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    running: list[subprocess.Popen[bytes]] = []

    def started(*urls: str, **options: str) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "TASKVISOR_REDIS_URL": redis_url,
            "TASKVISOR_REDIS_TIMEOUT_S": "2",
            "TASKVISOR_WEBHOOK_URLS": " ".join(urls),
            "TASKVISOR_WEBHOOK_SECRET_FILE": str(secret),
            "TASKVISOR_WEBHOOK_TIMEOUT_S": "2",
            "PYTHONPATH": str(ROOT),
            **options,
        }
        with (tmp_path / "sender.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taskvisor.cli", "webhooks", "run"], env=environment, stdout=log, stderr=log
            )
        running.append(process)
        return process

    yield started
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=STOP_LIMIT_S) == 0
    assert "Traceback" not in (tmp_path / "sender.log").read_text()


@pytest.fixture
def book(redis_url: str) -> Iterator[Book]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Book(client, "taskvisor:")


def add(book: Book, *names: str) -> list[str]:
    """An operation for each, and the cursors of their events."""
    before = len(book.event_cursors())
    for name in names:
        book.put_operation(operation(f"op-{name}", instance(name)))
    return book.event_cursors()[before:]


def has_begun(book: Book, count: int = 1) -> Callable[[], bool]:
    """So many URLs are known: what comes from now on is for them."""
    return lambda: book.client.hlen(book.keys.webhooks) == count


def test_each_event_comes_signed_and_in_order(start: Start, book: Book) -> None:
    add(book, "before")
    with receiving() as receiver:
        start(receiver.url())
        wait_until(has_begun(book), "the sender to begin")
        new = add(book, "a", "b", "c", "d")
        wait_until(lambda: len(receiver.taken) == 4, "four events")
        assert [got.cursor for got in receiver.taken] == new
        assert all(got.is_signed_by(KEY) for got in receiver.taken)


def test_a_sender_that_is_killed_in_the_midst_leaves_nothing_out(start: Start, book: Book) -> None:
    with receiving() as receiver:
        first = start(receiver.url())
        wait_until(has_begun(book), "the sender to begin")
        receiver.answer = receiver.hang
        new = add(book, "a", "b", "c")
        wait_until(lambda: receiver.got, "the first try")
        first.kill()
        first.wait(timeout=STOP_LIMIT_S)
        receiver.answer = lambda _: 200
        start(receiver.url())
        wait_until(lambda: len(receiver.taken) >= 3, "what was not taken, by another sender")
        assert [got.cursor for got in receiver.taken] == new
        assert receiver.got[0].cursor == new[0]  # at least once: this try's end nobody saw


def test_a_url_that_hangs_and_one_that_fails_hold_up_no_other(start: Start, book: Book) -> None:
    with receiving() as good, receiving(lambda _: 500) as failing, receiving() as hanging:
        hanging.answer = hanging.hang
        start(good.url(), failing.url(), hanging.url())
        wait_until(has_begun(book, 3), "the sender to begin")
        new = add(book, *(f"web-{number}" for number in range(20)))
        wait_until(lambda: len(good.taken) == 20, "all events at the one that takes them")
        wait_until(lambda: len(failing.got) >= 2 and len(hanging.got) >= 2, "a second try of each other")
        assert [got.cursor for got in good.taken] == new
        assert {got.cursor for got in [*failing.got, *hanging.got]} == {new[0]}


def test_a_receiver_that_dies_gets_the_rest_when_it_is_back(start: Start, book: Book) -> None:
    with receiving() as receiver:
        start(receiver.url())
        wait_until(has_begun(book), "the sender to begin")
        new = add(book, "a")
        wait_until(lambda: receiver.taken, "the first event")
        receiver.stop()
        new += add(book, "b", "c")
        wait_until(lambda: "reason" in str(book.client.hgetall(book.keys.webhooks)), "a failed try")
        receiver.start()
        wait_until(lambda: len(receiver.taken) == 3, "the rest")
    assert [got.cursor for got in receiver.taken] == new


def test_what_is_not_taken_in_time_is_in_the_log_and_the_rest_goes_on(start: Start, book: Book) -> None:
    bad: list[str] = []

    def answer(got: Got) -> int:
        return 422 if got.cursor in bad else 204

    with receiving(answer) as receiver:
        start(receiver.url(), TASKVISOR_WEBHOOK_KEEP_S="0")
        wait_until(has_begun(book), "the sender to begin")
        add(book, "a")
        wait_until(lambda: len(receiver.taken) == 1, "what is good")
        newest = int(book.event_cursors()[-1].partition("-")[0])
        bad.append(f"{newest + 1}-0")  # so that it is known before it is there
        for cursor in (bad[0], f"{newest + 1}-1"):
            book.client.xadd(book.keys.events, {**EVENT}, id=cursor)
        wait_until(lambda: len(receiver.taken) == 2, "what comes after it")
        (lost,) = Webhooks(book.client, book.keys, log_kept=10).list_undelivered(10)
    assert (lost.cursor, lost.tries, lost.reason) == (bad[0], 3, "it answered 422")


def test_two_senders_deliver_each_event_once_and_one_takes_over_from_the_other(start: Start, book: Book) -> None:
    with receiving() as receiver:
        first = start(receiver.url())
        wait_until(has_begun(book), "the sender to begin")
        start(receiver.url())
        new = add(book, "a", "b")
        wait_until(lambda: len(receiver.taken) == 2, "two events")
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=STOP_LIMIT_S) == 0
        new += add(book, "c")
        wait_until(lambda: len(receiver.taken) == 3, "the third, by the second sender")
    assert [got.cursor for got in receiver.taken] == new


def test_a_redis_that_restarts_costs_no_event(start: Start, open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server(appendonly="yes")
    with redis.Redis.from_url(server.url(), decode_responses=True) as client, receiving() as receiver:
        book = Book(client, "taskvisor:")
        start(receiver.url(), TASKVISOR_REDIS_URL=server.url())
        wait_until(has_begun(book), "the sender to begin")
        new = add(book, "a")
        wait_until(lambda: receiver.taken, "the first event")
        client.execute_command("CONFIG", "SET", "appendfsync", "always")
        server.kill()
        server.start()
        new += add(book, "b")
        wait_until(lambda: len(receiver.taken) >= 2, "the event of after the restart")
        assert list(dict.fromkeys(got.cursor for got in receiver.taken)) == new


def test_a_build_is_told_step_by_step_to_a_receiver_and_to_a_follower(
    start: Start, redis_url: str, tmp_state_dir: Path
) -> None:
    from taskvisor.client import Taskvisor

    receiver: Receiver
    with (
        receiving() as receiver,
        running_nodes(redis_url, tmp_state_dir) as nodes,
        Taskvisor(redis_url) as client,
    ):
        start(receiver.url())
        wait_until(lambda: nodes.redis.hlen("taskvisor:webhooks") == 1, "the sender to begin")
        handle = client.build(name="web-1", image="simulated://debian?virtual_gib=1", flavor="c1-m64-d1")
        events = list(handle.follow(STOP_LIMIT_S))
        assert handle.wait(STOP_LIMIT_S)["name"] == "web-1"
        assert events[-1].state.value == "succeeded"
        ended = [(event.number, event.of, event.outcome) for event in events if event.state.value == "ended"]
        assert ended == [(number, 5, "done") for number in range(1, 6)]
        assert list(handle.follow(0, after=events[3].cursor)) == events[4:]
        wait_until(
            lambda: any(b'"type":"instance.build.succeeded"' in got.body for got in receiver.taken), "the build's end"
        )
        assert client.delete("web-1").wait(STOP_LIMIT_S)["vm_state"] == "deleted"
