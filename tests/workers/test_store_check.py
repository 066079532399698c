"""A node starts on a Redis that keeps what is written to it, and says in words why it does not start on another."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import structlog

from taskvisor.cli.nodes import nodes_of
from taskvisor.cli.processes import Program
from taskvisor.model.errors import CannotAsk, Refused, UnreadableRecord
from taskvisor.settings import Settings
from taskvisor.state.connection import open_redis
from taskvisor.state.fitness import Flaw, Gravity
from taskvisor.state.keys import Keys
from tests.fixtures.redis_servers import OpenRedisServer
from tests.fixtures.redis_servers import RedisServer as OwnServer
from workers.bootsteps import StartHost
from workers.host import HostNode
from workers.preflight import list_problems
from workers.store_check import ensure_store_fit, notes_for, refusals_for

KEYS = Keys("taskvisor:")
LIMIT_S = 120.0

FLAWS = tuple(Flaw(gravity=gravity, sentence=f"it is {gravity.value}") for gravity in Gravity)


@pytest.fixture
def server(open_redis_server: OpenRedisServer) -> OwnServer:
    """A Redis that keeps every write."""
    return open_redis_server(appendonly="yes")


@pytest.fixture
def client(server: OwnServer) -> Iterator[redis.Redis]:
    opened = open_redis(server.url(), timeout_s=5.0)
    yield opened
    opened.close()


def settings_for(server: OwnServer, directory: Path, **options: Any) -> Settings:
    known = {"redis_url": server.url(), "state_dir": directory, "host": "h1", "driver": "simulated"}
    return Settings(**{**known, **options})


def test_what_is_volatile_is_refused_unless_allowed_and_what_is_unusable_always(
    server: OwnServer, tmp_path: Path
) -> None:
    strict, told = (settings_for(server, tmp_path, allow_volatile_redis=allow) for allow in (False, True))

    assert refusals_for(FLAWS, strict) == (
        "it is unusable",
        "it is volatile, or allow it by TASKVISOR_ALLOW_VOLATILE_REDIS=true where records may be lost",
    )
    assert notes_for(FLAWS, strict) == ("it is noted",)
    assert refusals_for(FLAWS, told) == ("it is unusable",)
    assert notes_for(FLAWS, told) == ("it is volatile", "it is noted")


def test_a_good_store_is_marked_and_nothing_is_said(client: redis.Redis, server: OwnServer, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        ensure_store_fit(client, settings_for(server, tmp_path))

    assert (logs, client.get(KEYS.schema)) == ([], "1")
    assert list(list_problems(settings_for(server, tmp_path))) == []


def test_a_volatile_store_is_refused_and_not_even_marked(
    client: redis.Redis, server: OwnServer, tmp_path: Path
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")

    with pytest.raises(Refused) as refusal:
        ensure_store_fit(client, settings_for(server, tmp_path))

    assert "maxmemory-policy allkeys-lru" in str(refusal.value)
    assert "keeps nothing on disk" in str(refusal.value)
    assert client.keys("*") == []
    assert str(refusal.value) == "; ".join(list_problems(settings_for(server, tmp_path)))


def test_a_volatile_store_that_is_allowed_is_a_warning(client: redis.Redis, server: OwnServer, tmp_path: Path) -> None:
    client.config_set("appendonly", "no")
    told = settings_for(server, tmp_path, allow_volatile_redis=True)

    with structlog.testing.capture_logs() as logs:
        ensure_store_fit(client, told)

    assert [(entry["event"], entry["gravity"]) for entry in logs] == [("store_flawed", "volatile")]
    assert list(list_problems(told)) == []


def test_snapshots_alone_are_a_warning(client: redis.Redis, server: OwnServer, tmp_path: Path) -> None:
    client.config_set("appendonly", "no")
    client.config_set("save", "60 1")

    with structlog.testing.capture_logs() as logs:
        ensure_store_fit(client, settings_for(server, tmp_path))

    assert [(entry["event"], entry["gravity"]) for entry in logs] == [("store_flawed", "noted")]
    assert list(list_problems(settings_for(server, tmp_path))) == []


def test_a_store_of_a_newer_version_is_refused(client: redis.Redis, server: OwnServer, tmp_path: Path) -> None:
    client.set(KEYS.schema, "2")

    with pytest.raises(UnreadableRecord, match="newer Taskvisor"):
        ensure_store_fit(client, settings_for(server, tmp_path))
    (problem,) = list_problems(settings_for(server, tmp_path))
    assert "newer Taskvisor" in problem


def test_a_store_that_falls_silent_at_the_start_is_connected_to_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def check_store(self) -> None:
            raise CannotAsk("Redis did not answer")

    monkeypatch.setattr(StartHost, "host_node", cast(HostNode, Silent()), raising=False)
    step = StartHost.__new__(StartHost)

    with pytest.raises(ConnectionError, match="did not answer"):
        step.start(None)


def _run_until_it_ends(program: Program) -> tuple[int, str]:
    """Exit code, and all that it said."""
    program.directory.mkdir(exist_ok=True)
    done = subprocess.run(
        program.argv,
        env=dict(program.environment),
        cwd=program.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.real
@pytest.mark.parametrize("role", ["steps", "control"])
def test_no_node_starts_where_records_would_be_lost(
    open_redis_server: OpenRedisServer, tmp_state_dir: Path, role: str
) -> None:
    server = open_redis_server()
    settings = settings_for(server, tmp_state_dir)
    program = nodes_of(settings)[("steps", "control").index(role)]

    with redis.Redis.from_url(server.url()) as client:
        client.lpush("host.h1", "a message")
        code, said = _run_until_it_ends(program)

        assert code == 1
        assert "host h1 does not start: Redis keeps nothing on disk" in said
        assert "TASKVISOR_ALLOW_VOLATILE_REDIS=true" in said
        assert client.llen("host.h1") == 1  # nothing was consumed


@pytest.mark.real
def test_no_node_starts_on_the_store_of_a_newer_version(
    client: redis.Redis, server: OwnServer, tmp_state_dir: Path
) -> None:
    client.set(KEYS.schema, "2")

    code, said = _run_until_it_ends(nodes_of(settings_for(server, tmp_state_dir))[0])

    assert code == 1
    assert "host h1 does not start: this store was written by a newer Taskvisor (schema 2;" in said
    assert client.get(KEYS.schema) == "2"
