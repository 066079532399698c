"""The command lines of nodes, beat, Flower and Redis."""

import sys
from pathlib import Path

import pytest

from taskvisor.cli import nodes
from taskvisor.cli.exits import UsageError
from taskvisor.cli.processes import WARM_STOP
from taskvisor.cli.up import settings_for
from taskvisor.settings import Settings

SETTINGS = Settings(host="h1", state_dir=Path("/s"), redis_url="redis://r/1", step_concurrency=3, control_concurrency=2)


def words(*, after: str, of: tuple[str, ...]) -> tuple[str, ...]:
    return of[of.index(after) + 1 :]


def test_each_node_reads_its_own_queues() -> None:
    steps, control = nodes.nodes_of(SETTINGS)
    assert steps.argv[0] == sys.executable
    plain = ("--without-gossip", "--without-mingle")
    assert words(after="worker", of=steps.argv) == (*plain, "-n", "steps@h1", "-Q", "host.h1", "-c", "3")
    assert words(after="worker", of=control.argv) == (
        *plain,
        "-n",
        "control@h1",
        "-Q",
        "host.h1.control,compute",
        "-c",
        "2",
    )
    assert steps.stop == control.stop == WARM_STOP


def test_children_get_the_settings_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    environment = nodes.beat_of(SETTINGS).environment
    assert environment["TASKVISOR_REDIS_URL"] == "redis://r/1"
    assert environment["TASKVISOR_STATE_DIR"] == "/s"
    assert environment["PATH"] == "/bin"
    for name, value in environment.items():
        if name.startswith("TASKVISOR_"):
            monkeypatch.setenv(name, value)
    assert Settings() == SETTINGS


def test_children_run_where_nothing_can_be_imported_by_chance() -> None:
    assert nodes.flower_of(SETTINGS, 5555).directory == Path("/s")


def test_a_redis_of_our_own_forgets_nothing_and_listens_on_no_port() -> None:
    argv = nodes.redis_of(SETTINGS).argv
    for option, value in (("--port", "0"), ("--appendonly", "yes"), ("--maxmemory-policy", "noeviction")):
        assert words(after=option, of=argv)[0] == value
    assert words(after="--unixsocket", of=argv)[0] == "/s/redis/redis.sock"


def test_a_redis_of_our_own_is_run_only_where_none_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TASKVISOR_REDIS_URL", raising=False)
    assert settings_for(Settings(), tmp_path).redis_url == f"unix://{tmp_path}/redis/redis.sock?db=0"
    monkeypatch.setenv("TASKVISOR_REDIS_URL", "redis://r/1")
    assert settings_for(Settings(), tmp_path).redis_url == "redis://r/1"


def test_a_path_that_no_socket_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKVISOR_REDIS_URL", raising=False)
    with pytest.raises(UsageError, match="longer than 107 bytes"):
        settings_for(Settings(), Path("/" + "x" * 100))
