"""Watching operations over a Redis that comes and goes, and events that are missed."""

import threading
from collections.abc import Iterator

import pytest

from taskvisor.cli import watch
from taskvisor.cli.exits import ExitCode
from taskvisor.cli.records import Records, open_client, open_records
from taskvisor.cli.watch import Request, Seen, Watch, ending_of
from taskvisor.client import Taskvisor
from taskvisor.model.errors import CannotAsk, Contradiction
from taskvisor.model.states import Phase
from taskvisor.settings import Settings
from tests.cli.book import Book, begun, failed, instance, operation, succeeded
from tests.cli.conftest import PREFIX
from tests.cli.fake_worker import FakeWorker
from tests.fixtures.redis_servers import OpenRedisServer, RedisServer

REQUEST = Request(verb="launch", subject="web-1", operation_id="op-1")


def opened(url: str) -> Settings:
    return Settings(redis_url=url, key_prefix=PREFIX, redis_timeout_s=0.5)


@pytest.fixture
def records(redis_url: str) -> Iterator[Records]:
    with open_records(opened(redis_url)) as found:
        yield found


@pytest.fixture
def client(redis_url: str) -> Iterator[Taskvisor]:
    with open_client(opened(redis_url)) as found:
        yield found


def last(rounds: Iterator[tuple[Seen, ...]]) -> Seen:
    seen: tuple[Seen, ...] = ()
    for seen in rounds:  # noqa: B007 - the last one counts
        pass
    return seen[0]


def test_an_event_is_seen_without_a_look_at_the_records(
    records: Records, client: Taskvisor, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 3600.0)
    made = book.put_operation(begun(operation("op-1", instance("web-1")), "prepare_disk"))
    rounds = Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=60)
    assert next(rounds)[0].operation == made
    threading.Timer(0.3, lambda: book.put_operation(succeeded(made, instance("web-1")))).start()
    assert last(rounds).ending is not None


def test_what_no_event_tells_of_is_seen_all_the_same(records: Records, client: Taskvisor, book: Book) -> None:
    made = book.put_operation(begun(operation("op-1", instance("web-1")), "prepare_disk"))
    rounds = Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=10)
    next(rounds)
    book.put_operation(succeeded(made, instance("web-1")))
    book.client.delete(book.keys.events)
    ending = last(rounds).ending
    assert ending is not None
    assert ending.code is ExitCode.DONE


def test_an_answer_at_the_door_ends_it(records: Records, client: Taskvisor, worker: FakeWorker) -> None:
    worker.store("op-1", "SUCCESS", {"name": "web-1", "already": True})
    ending = last(Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=10)).ending
    assert ending is not None
    assert (ending.code, ending.result) == (ExitCode.ALREADY, {"name": "web-1", "already": True})


def test_it_goes_on_when_redis_is_back(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server(appendonly="yes")
    with open_records(opened(server.url())) as records, open_client(opened(server.url())) as client:
        rounds = Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=20)
        assert next(rounds)[0].operation is None
        server.kill()
        assert next(rounds)[0].ending is None
        server.start()
        _put_succeeded(server)
        assert last(rounds).ending is not None


def _put_succeeded(server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(server.url(), decode_responses=True) as connection:
        made = instance("web-1")
        Book(connection, PREFIX).put_operation(succeeded(operation("op-1", made), made))


def test_a_redis_that_stays_away_is_told(open_redis_server: OpenRedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE_LIMIT_S", 0.5)
    server = open_redis_server()
    with open_records(opened(server.url())) as records, open_client(opened(server.url())) as client:
        rounds = Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=20)
        next(rounds)
        server.kill()
        with pytest.raises(CannotAsk):
            last(rounds)


def test_the_time_is_up_with_nothing_known(records: Records, client: Taskvisor) -> None:
    seen = last(Watch(records=records, client=client, requests=[REQUEST]).rounds(limit_s=0.3))
    assert (seen.request, seen.operation, seen.progress, seen.ending) == (REQUEST, None, None, None)


def test_each_phase_has_its_ending() -> None:
    made = operation("op-1", instance("web-1"))
    assert ending_of(made) is None
    stuck = failed(made, step="plug_vif", code="Contradiction", message="left alone", phase=Phase.STUCK)
    found = ending_of(stuck)
    assert found is not None
    assert isinstance(found.error, Contradiction)
    bug = ending_of(failed(made, step="plug_vif", code="KeyError", message="'tap'"))
    assert bug is not None
    assert str(bug.error) == "KeyError: 'tap'"
    assert bug.code is ExitCode.FAILED
