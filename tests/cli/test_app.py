"""The command as a whole: help, version, and errors that are sentences."""

import pytest

from taskvisor.cli.records import complete_instance
from taskvisor.settings import read_settings
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli

COMMANDS = ("launch", "list", "show", "start", "stop", "reboot", "snapshot", "delete", "console-log", "ops", "hosts")


def test_alone_it_helps(cli: Cli) -> None:
    result = cli()
    assert result.exit_code == 0
    for command in (*COMMANDS, "image", "images", "networks", "up", "worker"):
        assert command in result.stdout


def test_it_knows_its_version(cli: Cli) -> None:
    assert cli("--version").stdout.startswith("taskvisor")


@pytest.mark.parametrize("command", [*COMMANDS, "image", "images", "networks", "up", "worker"])
def test_every_command_helps(cli: Cli, command: str) -> None:
    assert cli(command, "--help").exit_code == 0


def test_what_is_no_command_is_a_usage_error(cli: Cli) -> None:
    assert cli("lunch").exit_code == 2
    assert cli("launch").exit_code == 2


@pytest.mark.parametrize(
    "words", [("list",), ("hosts",), ("ops", "list"), ("ops", "show", "abcd"), ("delete", "web-1"), ("start", "web-1")]
)
def test_a_redis_that_is_down_is_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TASKVISOR_REDIS_URL", "unix:///nonesuch/redis.sock?db=0")
    read_settings.cache_clear()
    result = cli(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: Redis did not answer when asked to ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["amqp://localhost", "nonsense"])
def test_a_url_that_is_no_redis_is_a_usage_error(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TASKVISOR_REDIS_URL", url)
    read_settings.cache_clear()
    assert cli("list").exit_code == 2
    assert cli("delete", "web-1").exit_code == 2


def test_a_setting_that_breaks_its_rule_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKVISOR_STEP_CONCURRENCY", "many")
    read_settings.cache_clear()
    result = cli("list")
    assert result.exit_code == 2
    assert "TASKVISOR_STEP_CONCURRENCY='many'" in result.stderr


def test_names_are_completed_and_nothing_is_when_redis_is_down(
    environment: dict[str, str], book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.put_instance(instance("web-1"))
    book.put_instance(instance("db-1"))
    assert complete_instance("w") == ["web-1"]
    beginning = instance("web-1").id[:6]
    assert complete_instance(beginning) == [instance("web-1").id]
    assert complete_instance("") == ["db-1", "web-1"]
    monkeypatch.setenv("TASKVISOR_REDIS_URL", "unix:///nonesuch/redis.sock")
    read_settings.cache_clear()
    assert complete_instance("w") == []
