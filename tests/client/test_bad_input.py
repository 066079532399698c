"""What the client's caller meets where something is wrong: one of our errors, in time, that says what it is and what to do."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from taskvisor.client import Taskvisor
from taskvisor.client.handle import StillRunning
from taskvisor.model.errors import CannotAsk, Conflicting, Refused, TaskvisorError, Unauthorised
from taskvisor.settings import read_settings
from tests.cli.book import Book, begun, failed, instance, operation, succeeded
from tests.cli.fake_worker import Answer, FakeWorker
from tests.fixtures.machine import ROOT
from tests.fixtures.redis_servers import OpenRedisServer, RedisServer

PREFIX = "fleet:"
ANSWER_LIMIT_S = 60.0
ASKED: dict[str, Callable[[Taskvisor], object]] = {
    "asks": lambda client: client.start("web-1"),
    "looks": lambda client: client.handle("op").look(),
    "waits": lambda client: client.handle("op").wait(ANSWER_LIMIT_S),
    "follows": lambda client: list(client.handle("op").follow(ANSWER_LIMIT_S)),
    "lists": lambda client: client.list_images(),
    "asks a host": lambda client: client.look_at_host("kvm1", expires_s=1.0),
}


@pytest.fixture
def book(redis_url: str) -> Iterator[Book]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Book(client, PREFIX)


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with Taskvisor(redis_url, timeout_s=2.0, key_prefix=PREFIX) as opened:
        yield opened


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://redis/0", "the scheme 'http' is none of a Redis"),
        ("redis.example:6379", "the scheme"),
        ("localhost", "it has no scheme"),
        ("", "it has no scheme"),
        ("redis://h:port/0", "Port could not be cast"),
        ("redis://h:99999/0", "Port out of range"),
        ("redis://[::1/0", "Invalid IPv6 URL"),
        ("redis://h/main", "database 'main' is no number"),
        ("unix:///r.sock?db=x", "database 'x' is no number"),
        ("unix://?db=1", "it names no socket"),
    ],
)
def test_a_url_that_is_none_of_a_redis_is_refused_before_anything_is_asked(url: str, problem: str) -> None:
    with pytest.raises(Refused, match=f"{problem}.*; write redis://"):
        Taskvisor(url)


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(Refused) as caught:
        Taskvisor("http://bob:geheim@redis/0?password=geheim")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("ask", ASKED)
def test_an_option_that_no_redis_has_is_refused(redis_url: str, ask: str) -> None:
    with Taskvisor(f"{redis_url}&spam=1") as client, pytest.raises(Refused, match="it has no option 'spam'"):
        ASKED[ask](client)


@pytest.mark.parametrize("ask", ASKED)
def test_a_database_that_is_not_there_is_refused(redis_server: RedisServer, ask: str) -> None:
    with Taskvisor(redis_server.url(4711)) as client, pytest.raises(Refused, match="choose a lower number"):
        ASKED[ask](client)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://no-such-host.invalid/0", "unix:///nonesuch/r.sock"])
@pytest.mark.parametrize("ask", ["asks", "looks", "lists", "asks a host"])
def test_a_redis_that_is_not_there_cannot_be_asked(url: str, ask: str) -> None:
    with Taskvisor(url, timeout_s=0.5) as client, pytest.raises(CannotAsk, match="is it up and reachable"):
        ASKED[ask](client)


@pytest.mark.parametrize("ask", ["waits", "follows"])
def test_who_waits_bears_a_silence_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    monkeypatch.setattr("taskvisor.client.handle.SILENCE_LIMIT_S", 0.3)
    with Taskvisor("redis://127.0.0.1:1/0", timeout_s=0.5) as client, pytest.raises(CannotAsk, match="is it up"):
        ASKED[ask](client)


@pytest.fixture
def guarded(open_redis_server: OpenRedisServer) -> RedisServer:
    """A server with a password, a user `reader` who may only read results, and one `mute` who may send nothing."""
    server = open_redis_server()
    with redis.Redis.from_url(server.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">r", "~celery*", "+get", "+select", "+client")
        admin.execute_command("ACL", "SETUSER", "mute", "on", ">m", "~*", "+@all", "-lpush")
        admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">geheim")
    return server


def as_user(server: RedisServer, user: str) -> str:
    return server.url().replace("unix://", f"unix://{user}@")


@pytest.mark.parametrize("user", ["", ":wrong"])
@pytest.mark.parametrize("ask", ASKED)
def test_a_wrong_password_is_told_at_once(guarded: RedisServer, user: str, ask: str) -> None:
    url = as_user(guarded, user) if user else guarded.url()
    with (
        Taskvisor(url, timeout_s=2.0) as client,
        pytest.raises(Unauthorised, match="the right user and password") as got,
    ):
        ASKED[ask](client)
    assert "wrong" not in str(got.value)


def test_a_user_without_the_right_is_told_which_one(guarded: RedisServer) -> None:
    with Taskvisor(as_user(guarded, "mute:m")) as client, pytest.raises(Unauthorised, match=r"'lpush'.*ACL SETUSER"):
        client.start("web-1")
    with Taskvisor(as_user(guarded, "reader:r")) as client, pytest.raises(Unauthorised, match="list images"):
        client.list_images()


def test_a_user_who_may_read_results_only_can_look_and_wait(guarded: RedisServer) -> None:
    with Taskvisor(as_user(guarded, "reader:r")) as client:
        assert client.handle("op").state() == "PENDING"
        with pytest.raises(StillRunning, match="has not been taken"):
            client.handle("op").wait(0)


def test_the_rights_of_the_manual_are_enough_for_a_producer(open_redis_server: OpenRedisServer) -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    (line,) = [line for line in manual.splitlines() if line.startswith("ACL SETUSER producer")]
    server = open_redis_server()
    with redis.Redis.from_url(server.url(), decode_responses=True) as admin:
        admin.execute_command(*line.replace("PASSWORD", "p").split())
        book = Book(admin, "taskvisor:")
        book.put_operation(begun(operation("op", instance("web-1")), "fetch_image"))
        with Taskvisor(as_user(server, "producer:p")) as client:
            handle = client.start("web-1", operation_id="other")
            with pytest.raises(StillRunning, match="no host has ever reported"):
                handle.wait(0)
            with pytest.raises(StillRunning, match="host host-1 is down"):
                list(client.handle("op").follow(0))
            made = instance("web-1")
            book.put_operation(succeeded(operation("op", made), made))
            assert client.handle("op").wait(0)["name"] == "web-1"
        answers: dict[str, Answer] = {"instance.start": lambda _: {"name": "web-1"}}
        with FakeWorker(server.url(), answers), Taskvisor(as_user(server, "producer:p")) as client:
            assert client.handle("other").wait(ANSWER_LIMIT_S) == {"name": "web-1"}
        with redis.Redis.from_url(as_user(server, "producer:p")) as producer, pytest.raises(redis.ResponseError):
            producer.set("taskvisor:instance:x", "{}")


@pytest.fixture
def evicting(open_redis_server: OpenRedisServer) -> RedisServer:
    server = open_redis_server()
    with redis.Redis.from_url(server.url()) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    return server


@pytest.mark.parametrize("ask", ["asks", "asks a host"])
def test_a_redis_that_evicts_is_sent_nothing(evicting: RedisServer, ask: str) -> None:
    with Taskvisor(evicting.url()) as client, pytest.raises(Refused, match=r"allkeys-lru.*maxmemory-policy noeviction"):
        ASKED[ask](client)
    with redis.Redis.from_url(evicting.url()) as admin:
        assert admin.keys() == []


def test_a_redis_that_evicts_may_be_allowed(evicting: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKVISOR_ALLOW_VOLATILE_REDIS", "true")
    read_settings.cache_clear()
    try:
        with Taskvisor(evicting.url()) as client:
            assert client.start("web-1").state() == "PENDING"
    finally:
        read_settings.cache_clear()


def test_a_redis_that_is_full_is_told(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    with redis.Redis.from_url(server.url()) as admin:
        admin.config_set("maxmemory", "1")
    with Taskvisor(server.url()) as client, pytest.raises(CannotAsk, match=r"refused to take the request.*its limits"):
        client.start("web-1")


def test_where_no_host_ever_reported_that_is_why_a_request_waits(client: Taskvisor) -> None:
    with pytest.raises(StillRunning, match=r"no host has ever reported.*start one with `taskvisor worker`"):
        client.start("web-1").wait(0)


def test_where_every_host_is_down_that_is_why_a_request_waits(client: Taskvisor, book: Book) -> None:
    book.put_host("kvm1")
    with pytest.raises(StillRunning, match=r"no worker takes requests: every host is down \(kvm1\), and 1 wait"):
        client.start("web-1").wait(0)


def test_where_hosts_are_busy_that_is_why_a_request_waits(client: Taskvisor, book: Book) -> None:
    book.put_host("kvm1")
    book.hosts.note_taking("kvm1", "one", keep_s=60)  # type: ignore[arg-type]
    with pytest.raises(StillRunning, match="1 requests wait in the queue"):
        client.start("web-1").wait(0)


def test_an_id_that_nobody_knows_is_said_to_be_so(client: Taskvisor, book: Book) -> None:
    book.put_host("kvm1")
    book.hosts.note_taking("kvm1", "one", keep_s=60)  # type: ignore[arg-type]
    with pytest.raises(StillRunning, match=r"nobody knows of it: nothing was asked under that id, or .* have expired"):
        client.handle("nonesuch").wait(0)
    with pytest.raises(StillRunning, match="nobody knows of it"):
        list(client.handle("nonesuch").follow(0))


def test_an_operation_of_a_host_that_is_down_is_said_to_wait_for_it(client: Taskvisor, book: Book) -> None:
    book.put_operation(begun(operation("op", instance("web-1")), "fetch_image"))
    with pytest.raises(StillRunning, match=r"host host-1 is down: it goes on by itself .*ops cancel op"):
        client.handle("op").wait(0)


def test_a_result_can_be_asked_for_again_and_again_and_after_it_has_expired(
    client: Taskvisor, book: Book, redis_url: str
) -> None:
    made = instance("web-1")
    with FakeWorker(redis_url, {"instance.start": lambda _: {"name": "web-1"}}):
        handle = client.start("web-1", operation_id="op")
        assert handle.wait(ANSWER_LIMIT_S)["name"] == handle.wait(0)["name"] == handle.result["name"] == "web-1"
    book.put_operation(succeeded(operation("op", made), made))
    book.client.delete("celery-task-meta-op")
    assert handle.wait(0)["name"] == client.handle("op").wait(0)["name"] == "web-1"
    book.client.flushdb()
    assert handle.wait(0)["name"] == "web-1"  # this very handle has seen it
    with pytest.raises(StillRunning, match="no host has ever reported"):
        client.handle("op").wait(0)


def test_a_failure_is_told_by_its_class_after_its_result_has_expired(client: Taskvisor, book: Book) -> None:
    of = operation("op", instance("web-1"))
    book.put_operation(failed(of, step="plug_vif", code="Conflicting", message="tap5 is another's"))
    with pytest.raises(Conflicting, match="plug_vif: tap5 is another's"):
        client.handle("op").wait(0)
    stranger = replace(of, id="op2")  # type: ignore[arg-type]
    book.put_operation(failed(stranger, step="plug_vif", code="KeyError", message="x"))
    with pytest.raises(TaskvisorError, match="KeyError: plug_vif: x"):
        client.handle("op2").wait(0)


def test_a_redis_that_hangs_is_told_in_time(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    assert server.pid is not None
    with Taskvisor(server.url(), timeout_s=0.3) as client:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for ask in ("asks", "looks", "lists", "asks a host"):
                with pytest.raises(CannotAsk):
                    ASKED[ask](client)
        finally:
            os.kill(server.pid, signal.SIGCONT)
