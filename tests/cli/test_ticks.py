"""`taskvisor ticks`, `taskvisor monitor` and `taskvisor usage`: what is done again and again, and what came of it."""

import time

import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.tick import DONE, Run
from taskvisor.state.series import Series
from taskvisor.state.ticks import Ticks
from taskvisor.state.usage import Usage, UsageRecords
from taskvisor.timetable import ROWS
from tests.cli.book import HOST, Book, instance
from tests.cli.conftest import Cli, json_of

HOST_2 = HostName("host-2")


def run(task: str, *, host: HostName = HOST, ago_s: float = 5.0, outcome: str = DONE, reason: str | None = None) -> Run:
    return Run(
        task=task,
        host=host,
        began_at=time.time() - ago_s,
        took_s=0.25,
        outcome=outcome,
        counts={"fell_silent": 2},
        reason=reason,
        period_s=60.0,
    )


@pytest.fixture
def ticks(book: Book) -> Ticks:
    book.put_host(HOST)
    book.put_host(HOST_2)
    return Ticks(book.client, book.keys)


def test_each_task_is_shown_where_it_is_done_with_what_came_of_it(cli: Cli, ticks: Ticks) -> None:
    ticks.note(run("host.track"))
    ticks.note(run("operation.sweep", host=HOST_2, ago_s=3600))
    ticks.note(run("host.monitor", outcome="CannotAsk", reason="libvirtd is down"))

    lines = [line.split("  ") for line in cli("ticks").stdout.splitlines()]
    shown = {(line[0].strip(), line_host(line)): " ".join(line) for line in lines}

    assert "2 fell silent" in shown["track", HOST]
    assert shown["track", HOST].endswith("on time")
    assert shown["track", HOST_2].endswith("never run")
    assert "late by 240 periods" in shown["sweep", HOST_2]
    assert "CannotAsk: libvirtd is down" in shown["monitor", HOST]


def line_host(line: list[str]) -> str:
    return next((word.strip() for word in line[1:] if word.strip()), "")


def test_what_is_late_failed_or_was_never_done_is_shown_alone(cli: Cli, ticks: Ticks) -> None:
    for row in ROWS:
        for host in (HOST, HOST_2):
            ticks.note(run(row.task, host=host))
    assert cli("ticks", "--late").stdout == ""

    ticks.note(run("host.track", ago_s=181))
    ticks.note(run("host.monitor", host=HOST_2, outcome="OSError"))

    found = json_of(cli("ticks", "--late", "-f", "json"))
    assert [(line["name"], line["host"], line["state"]) for line in found] == [
        ("track", HOST, "late"),
        ("monitor", HOST_2, "on time"),
    ]


def test_the_last_runs_of_a_task_are_shown(cli: Cli, ticks: Ticks) -> None:
    for ago_s in (120.0, 60.0, 0.0):
        ticks.note(run("host.track", ago_s=ago_s))

    assert len(json_of(cli("ticks", "--task", "track", "--host", HOST, "-f", "json"))) == 3
    assert len(cli("ticks", "--task", "track").stdout.splitlines()) == 4
    assert cli("ticks", "--task", "nosuch").stdout == ""


def test_without_a_host_only_the_fleets_are_shown(cli: Cli) -> None:
    assert {line["name"] for line in json_of(cli("ticks", "-f", "json"))} == {"sweep", "hosts", "builds"}


def test_what_was_measured_is_shown_with_its_range(cli: Cli, book: Book) -> None:
    book.put_host(HOST)
    made = book.put_instance(instance("web-1"))
    series = Series(book.client, book.keys)
    for number, busy in enumerate((None, 0.25, 0.75)):
        series.append(HOST, time.time() - 60 + number, {"cpu.percent": busy}, {made.id: {"memory.rss": 2048.0}})

    lines = [line.split() for line in cli("monitor", HOST).stdout.splitlines()]

    assert lines == [["METRIC", "NOW", "LEAST", "MEAN", "MOST"], ["cpu.percent", "0.75", "0.25", "0.5", "0.75"]]
    assert "3 samples over 2.0 s" in cli("monitor", HOST).stderr
    assert cli("monitor", "web-1").stdout.splitlines()[1].split() == ["memory.rss", "2048", "2048", "2048", "2048"]
    assert json_of(cli("monitor", made.id, "-f", "json"))[0]["values"] == {"memory.rss": 2048}


def test_what_was_not_measured_and_who_is_not_there_are_told_apart(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))

    nothing, nobody = cli("monitor", "web-1"), cli("monitor", "nosuch")

    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "Nothing of web-1 was measured yet" in nothing.stderr
    assert nobody.exit_code == 1
    assert "there is no host and no instance 'nosuch'" in nobody.stderr


def test_usage_is_shown_latest_first(cli: Cli, book: Book) -> None:
    def usage(name: str) -> Usage:
        return Usage(
            began_at=0.0,
            ended_at=3600.0,
            instance="i",
            name=name,
            project="default",
            host=HOST,
            vm_state="active",
            power_state="running",
            flavor="c1-m64-d1",
            vcpus=1,
            memory_mib=64,
            disk_gib=1,
            created_at=0.0,
            launched_at=None,
        )

    UsageRecords(book.client, book.keys).append(HOST, 0, [usage("first"), usage("second")])

    assert [one["name"] for one in json_of(cli("usage", "-f", "json"))] == ["second", "first"]
    assert cli("usage", "--limit", "1").stdout.splitlines()[1].split()[2:5] == ["second", "default", HOST]
