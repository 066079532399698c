"""Every command over a Redis that is wrong: one sentence, no traceback, and the exit code that scripts rely on."""

import pytest
import redis

from taskvisor.settings import read_settings
from tests.cli.conftest import Cli
from tests.fixtures.redis_servers import OpenRedisServer

COMMANDS = (
    ("start", "web-1"),
    ("launch", "simulated://x", "--name", "web-1", "-t", "m1.tiny", "--no-wait"),
    ("list",),
    ("ops", "list"),
    ("events",),
    ("events", "--follow"),
    ("webhooks", "status"),
    ("flavor", "list"),
)


def said(cli: Cli, words: tuple[str, ...], url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code, and what stood on standard error."""
    monkeypatch.setenv("TASKVISOR_REDIS_URL", url)
    monkeypatch.setenv("TASKVISOR_REDIS_TIMEOUT_S", "0.5")
    read_settings.cache_clear()
    result = cli(*words)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("url", ["redis://h:port/0", "http://bob:geheim@h/", "localhost", "redis://h/main"])
def test_a_url_that_is_none_of_a_redis_ends_with_2_and_names_the_setting(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], url: str
) -> None:
    code, error = said(cli, words, url, monkeypatch)
    assert code == 2
    assert error.startswith("Error: TASKVISOR_REDIS_URL: ")
    assert len(error.splitlines()) <= 2  # what is wrong, and what to try
    assert "geheim" not in error


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_redis_that_is_down_ends_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    code, error = said(cli, words, "redis://127.0.0.1:1/0", monkeypatch)
    assert (code, len(error.splitlines())) == (1, 1)
    assert "is it up and reachable?" in error


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_redis_that_does_not_let_us_ends_with_1_and_says_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, open_redis_server: OpenRedisServer, words: tuple[str, ...]
) -> None:
    server = open_redis_server()
    with redis.Redis.from_url(server.url()) as admin:
        admin.config_set("requirepass", "geheim")
    code, error = said(cli, words, server.url(), monkeypatch)
    assert (code, len(error.splitlines())) == (1, 1)
    assert "the right user and password" in error


def test_a_redis_that_evicts_is_sent_no_request(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, open_redis_server: OpenRedisServer
) -> None:
    server = open_redis_server()
    with redis.Redis.from_url(server.url()) as admin:
        admin.config_set("maxmemory-policy", "volatile-ttl")
    code, error = said(cli, ("start", "web-1"), server.url(), monkeypatch)
    assert (code, len(error.splitlines())) == (1, 1)
    assert "set `maxmemory-policy noeviction`" in error
