"""The command line over a private Redis, with records put there by the test and a worker in a thread."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from typer.testing import CliRunner, Result

from taskvisor.cli.app import app
from taskvisor.settings import read_settings
from tests.cli.book import HOST, Book
from tests.cli.fake_worker import FakeWorker

PREFIX = "tvcli:"


class Cli(Protocol):
    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        """What the command said, and its exit code."""
        ...


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of this process and of its children."""
    variables = {
        "TASKVISOR_REDIS_URL": redis_url,
        "TASKVISOR_STATE_DIR": str(tmp_path),
        "TASKVISOR_HOST": HOST,
        "TASKVISOR_KEY_PREFIX": PREFIX,
        "TASKVISOR_REDIS_TIMEOUT_S": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TASKVISOR_ENV_FILE", raising=False)
    read_settings.cache_clear()
    yield variables
    read_settings.cache_clear()


@pytest.fixture
def cli(environment: dict[str, str]) -> Cli:
    runner = CliRunner()

    def run(*words: str, stdin: str | None = None) -> Result:
        result = runner.invoke(app, list(words), input=stdin, prog_name="taskvisor")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a traceback: no user may ever see one
        return result

    return run


@pytest.fixture
def book(redis_url: str) -> Iterator[Book]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield Book(client, PREFIX)


@pytest.fixture
def worker(redis_url: str) -> Iterator[FakeWorker]:
    with FakeWorker(redis_url) as running:
        yield running


def json_of(result: Result) -> Any:
    """What was printed on standard output, parsed."""
    return json.loads(result.stdout)
