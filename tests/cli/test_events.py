"""`taskvisor events`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime

import pytest

from taskvisor.cli.exits import UsageError
from taskvisor.cli.since import cursor_for
from taskvisor.model.event import EventView
from tests.cli.book import Book, begun, ended, instance, operation
from tests.cli.conftest import Cli
from tests.fixtures.machine import ROOT

LIMIT_S = 60.0


@pytest.fixture
def told(book: Book) -> list[str]:
    """Two operations were let in and one went on; the cursors of what the stream says of it."""
    first = operation("op-1", instance("web-1"))
    book.put_operation(first)
    book.put_operation(operation("op-2", instance("web-2", host="host-2")))
    book.put_operation(ended(begun(first, "prepare_disk"), "prepare_disk"))
    return book.event_cursors()


def views(text: str) -> list[EventView]:
    return [json.loads(line) for line in text.splitlines()]


def test_all_that_is_kept_is_shown_with_where_to_go_on(cli: Cli, told: list[str]) -> None:
    result = cli("events")
    lines = [line.split("  ")[1:] for line in result.stdout.splitlines()]
    assert lines == [
        ["instance.build", "web-1 on host-1", "running", "prepare_disk 1/5"],
        ["instance.build", "web-2 on host-2", "running", "prepare_disk 1/5"],
        ["instance.build", "web-1 on host-1", "running", "prepare_disk done"],
    ]
    assert result.stderr == f"Go on with: taskvisor events --since {told[-1]}\n"
    assert cli("events", "--since", told[-1]).stdout == ""


def test_as_json_each_event_is_an_object_a_line(cli: Cli, told: list[str]) -> None:
    found = views(cli("events", "-f", "json").stdout)
    assert [view["cursor"] for view in found] == told
    assert found[2] == {
        **found[2],
        "kind": "operation",
        "operation": "op-1",
        "flow": "instance.build",
        "name": "web-1",
        "host": "host-1",
        "phase": "running",
        "step": "fetch_image",
        "number": 2,
        "of": 5,
        "tried": "prepare_disk",
        "outcome": "done",
        "by": "",
        "reason": "",
    }
    assert views(cli("events", "-f", "json", "--since", told[0]).stdout) == found[1:]
    assert cli("events", "-f", "json").stderr == ""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--instance", "web-1"), [0, 2]),
        (("--instance", instance("web-2").id), [1]),
        (("--host", "host-2"), [1]),
        (("--operation", "op-1"), [0, 2]),
        (("--operation", "op-"), [0, 1, 2]),
        (("--instance", "web-1", "--host", "host-2"), []),
    ],
)
def test_what_is_not_asked_for_is_left_out(cli: Cli, told: list[str], words: tuple[str, ...], shown: list[int]) -> None:
    found = views(cli("events", "-f", "json", *words).stdout)
    assert [view["cursor"] for view in found] == [told[number] for number in shown]


def test_who_comes_too_late_is_told_that_something_may_be_missing(cli: Cli, book: Book, told: list[str]) -> None:
    book.client.xtrim(book.keys.events, maxlen=1, approximate=False)
    result = cli("events", "--since", "1-0", "-f", "json")
    assert [view["cursor"] for view in views(result.stdout)] == told[-1:]
    assert result.stderr.startswith("2 entries may be missing: the stream keeps nothing before ")
    assert "missing" not in cli("events", "--since", told[-1]).stderr
    assert "missing" not in cli("events").stderr


def test_since_when_is_said_as_people_say_it() -> None:
    now = 1763769600.5
    last = 2**64 - 1
    assert cursor_for("now", now) == "$"
    assert cursor_for("0", now) == "0-0"
    assert cursor_for("1763769600000-3", now) == "1763769600000-3"
    assert cursor_for("90s", now) == f"1763769510499-{last}"
    assert cursor_for("15m", now) == f"1763768700499-{last}"
    assert cursor_for("2d", now) == f"1763596800499-{last}"
    assert cursor_for("2025-11-22T00:00:00Z", now) == f"1763769599999-{last}"
    assert cursor_for("1969-01-01", now) == "0-0"
    local = datetime.fromtimestamp(now).astimezone().replace(microsecond=0, tzinfo=None)
    assert cursor_for(local.isoformat(), now) == f"1763769599999-{last}"


@pytest.mark.parametrize("text", ["", "yesterday", "15 parsecs", "1-2-3", "$", "12", "99999999d"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    if text == "99999999d":
        assert cursor_for(text, time.time()) == "0-0"
        return
    with pytest.raises(UsageError, match="how long ago"):
        cursor_for(text, time.time())


def test_a_since_that_makes_no_sense_ends_with_2(cli: Cli) -> None:
    result = cli("events", "--since", "yesterday")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--since 'yesterday': a cursor" in result.stderr


def test_who_follows_is_told_what_comes_and_at_ctrl_c_where_to_go_on(
    environment: dict[str, str], book: Book, told: list[str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "taskvisor.cli", "events", "--follow", "--since", told[1], "--operation", "op-1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "prepare_disk done" in process.stdout.readline()
        book.put_operation(operation("op-3", instance("web-3")))
        first = operation("op-1", instance("web-1"))
        book.put_operation(replace(first, revision=7, host="host-9"))  # type: ignore[arg-type]
        assert "web-1 on host-9" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    newest = book.event_cursors()[-1]
    assert (process.returncode, out) == (0, "")
    assert err == f"Go on with: taskvisor events --since {newest} --follow\n"
