"""`taskvisor host`: what is sent, what is shown, and the exit codes."""

from typing import Any

import pytest
import redis

from taskvisor.cli.host_arguments import parse_length_s
from taskvisor.cli.host_state import host_state_text
from taskvisor.model.drain import Drain, DrainPhase, Fate, Prospect
from taskvisor.model.host_mark import HostAct, HostEvent, HostMark
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Host, Resources
from taskvisor.state.codec import encode
from taskvisor.state.keys import Keys
from tests.cli.book import HOST, Book
from tests.cli.conftest import PREFIX, Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

PLAN = {
    "host": HOST,
    "up": True,
    "prospects": [{"name": "web-1", "instance": "i", "fate": "stops", "why": "is stopped"}],
}
MARK = HostMark(reason="no power", by="ann", at=1.0)


def drain(phase: DrainPhase = DrainPhase.DRAINING, **fields: Any) -> Drain:
    known = {"began_at": 1.0, "looked_at": 1.0, "deadline_at": 3601.0}
    return Drain(
        id=OperationId("d"),
        host=HostName(HOST),
        reason="new kernel",
        by="ann",
        phase=phase,
        **{**known, **fields},
    )


@pytest.fixture
def client(redis_url: str, book: Book) -> Any:
    book.put_host()
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


def put_drain(client: "redis.Redis", one: Drain) -> None:
    client.set(Keys(PREFIX).drain(HOST), encode(one))


def test_the_plan_is_shown_before_the_drain_is_asked_for(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["host.plan_drain"] = lambda _: PLAN
    worker.answers["host.drain"] = lambda _: {"host": HOST, "deadline_at": 3601.0}

    words = ["--reason", "new kernel", "--deadline", "1h30m", "--stop-guests", "--cancel-builds", "--id", "d"]
    result = cli("host", "drain", HOST, *words)

    assert result.exit_code == 0, result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()[:2]] == [["NAME", "FATE"], ["web-1", "stops"]]
    assert f"{HOST} takes no newcomers, and is being drained until" in result.stdout
    plan, asked = worker.asked
    assert (plan.task, plan.fields) == ("host.plan_drain", {"host": HOST, "guests": "stop", "builds": "cancel"})
    assert (asked.task, asked.operation_id) == ("host.drain", "d")
    by = asked.fields["by"]
    assert "@" in by
    assert dict(asked.fields) == {
        "host": HOST,
        "reason": "new kernel",
        "deadline_s": 5400,
        "guests": "stop",
        "builds": "cancel",
        "by": by,
    }


def test_a_dry_run_shows_the_plan_and_asks_for_nothing(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["host.plan_drain"] = lambda _: {**PLAN, "up": False}

    result = cli("host", "drain", HOST, "--dry-run")

    assert (result.exit_code, [asked.task for asked in worker.asked]) == (0, ["host.plan_drain"])
    assert "is down: nothing on it can be stopped" in result.stderr
    assert json_of(cli("host", "drain", HOST, "--dry-run", "-f", "json"))["prospects"] == PLAN["prospects"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drain", HOST), "--reason says why"),
        (("drain", HOST, "--stop-guests", "--watch"), "--reason says why"),
        (("drain", HOST, "--cancel-builds", "--watch"), "--reason says why"),
        (("drain", HOST, "--reason", "x", "--deadline", "soon"), "--deadline 'soon': must be a length of time"),
        (("drain", HOST, "--reason", "x", "--deadline", "-5m"), "--deadline '-5m': must be a length of time from now"),
        (("drain", HOST, "--reason", "x", "--deadline", "0m"), "--deadline '0m': must lie ahead"),
        (("force-down", HOST), "--reason says why the host is called dead"),
        (("force-down", HOST, "--up", "--reason", "x"), "--reason says why the host is called dead"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli("host", *words)

    assert (result.exit_code, worker.asked) == (2, [])
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "task", "fields", "said"),
    [
        (
            ("undrain", HOST, "--start-guests"),
            "host.undrain",
            {"host": HOST, "start_guests": True},
            f"{HOST} takes newcomers as before its drain",
        ),
        (
            ("force-down", HOST, "--reason", "no power"),
            "host.force_down",
            {"host": HOST, "reason": "no power"},
            f"{HOST} is treated as down; its guests are left alone, and not fenced",
        ),
        (("force-down", HOST, "--up"), "host.force_up", {"host": HOST}, f"{HOST} is believed again"),
        (
            ("remove", HOST, "--reason", "sold"),
            "host.remove",
            {"host": HOST, "reason": "sold"},
            f"{HOST} is forgotten",
        ),
    ],
)
def test_each_command_sends_its_request_with_who_asks(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], task: str, fields: dict[str, Any], said: str
) -> None:
    worker.answers[task] = lambda _: {"host": HOST}

    result = cli("host", *words)

    assert (result.exit_code, result.stdout) == (0, f"{said}\n"), result.stderr
    (asked,) = worker.asked
    assert (asked.task, {**asked.fields, "by": ""}) == (task, {**fields, "by": ""})
    assert "@" in asked.fields["by"]


def test_a_refusal_is_a_sentence_and_what_is_so_already_ends_with_3(cli: Cli, worker: FakeWorker) -> None:
    from taskvisor.model.errors import Refused

    def refuse(_: Asked) -> object:
        raise Refused("host: 'host-1' can't be removed: a node of it speaks; stop its worker")

    worker.answers["host.remove"] = refuse
    worker.answers["host.undrain"] = lambda _: {"host": HOST, "already": True}

    refused, already = cli("host", "remove", HOST, "--reason", "sold"), cli("host", "undrain", HOST)

    assert refused.exit_code == 1
    assert "a node of it speaks; stop its worker" in refused.stderr
    assert already.exit_code == 3


@pytest.mark.parametrize(
    ("phase", "code", "said"),
    [
        (DrainPhase.DRAINED, 0, "is drained: nothing runs there"),
        (DrainPhase.PARTIAL, 1, "is not empty, and its deadline has passed"),
        (DrainPhase.OVER, 0, "takes newcomers again"),
    ],
)
def test_watching_ends_with_the_drain(cli: Cli, client: Any, phase: DrainPhase, code: int, said: str) -> None:
    in_the_way = (Prospect(name="web-1", fate=Fate.STAYS, why="stays: no migration"),)
    put_drain(client, drain(phase, prospects=in_the_way, ended_at=2.0))

    result = cli("host", "drain", HOST, "--watch")

    assert (result.exit_code, result.stdout) == (code, f"{HOST} {said}\n"), result.stderr
    assert "web-1 stays: no migration" in result.stderr


def test_watching_gives_up_in_time_and_there_may_be_nothing_to_watch(cli: Cli, client: Any) -> None:
    assert "is not being drained" in cli("host", "drain", HOST, "--watch").stderr
    put_drain(client, drain())

    result = cli("host", "drain", HOST, "--watch", "--timeout", "0.2")

    assert result.exit_code == 4
    assert f"Host {HOST} is still draining; the drain goes on." in result.stderr


def test_a_host_is_shown_with_its_drain_and_what_was_done_to_it(cli: Cli, client: Any) -> None:
    in_the_way = (Prospect(name="web-1", fate=Fate.STAYS, why="stays: no migration"),)
    put_drain(client, drain(prospects=in_the_way))
    keys = Keys(PREFIX)
    client.hset(keys.host(HOST), mapping={"disabled": "draining: new kernel", "draining": "draining"})
    event = HostEvent(
        act=HostAct.DRAIN,
        host=HostName(HOST),
        request_id=OperationId("d"),
        by="ann",
        reason="new kernel",
        outcome="draining",
        at=1.0,
    )
    client.lpush(keys.host_events(HOST), encode(event))

    text, view = cli("host", "show", HOST).stdout, json_of(cli("host", "show", HOST, "-f", "json"))

    for words in ("draining: new kernel", "stays: no migration", "host.drain", "ann"):
        assert words in text
    assert (view["draining"], view["drain"]["phase"], view["events"][0]["by"]) == ("draining", "draining", "ann")
    assert "draining: new kernel" in cli("hosts").stdout
    assert cli("host", "show", "nope").exit_code == 1


def host(*, up: bool, **fields: Any) -> Host:
    return Host(name=HostName(HOST), inventory=None, used=Resources(), instances=0, up=up, **fields)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (host(up=True), "up"),
        (host(up=False), "down"),
        (host(up=True, disabled_reason="noisy"), "disabled: noisy"),
        (host(up=False, disabled_reason="noisy"), "down, disabled: noisy"),
        (host(up=True, disabled_reason="drained: x", draining=DrainPhase.DRAINED), "drained: x"),
        (host(up=False, forced_down=MARK), "down, forced: no power"),
        (host(up=True, forced_down=MARK), "down, forced (and yet it speaks): no power"),
    ],
)
def test_what_is_so_of_a_host_is_said_in_the_order_of_what_counts(shown: Host, text: str) -> None:
    assert host_state_text(shown) == text


@pytest.mark.parametrize(("text", "length_s"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d12h", 129600)])
def test_a_length_of_time_is_read(text: str, length_s: int) -> None:
    assert parse_length_s(text) == length_s


def test_a_list_is_shown_a_page_at_a_time(cli: Cli, book: Book) -> None:
    from tests.cli.book import instance

    for number in range(1, 6):
        book.put_instance(instance(f"web-{number}"))

    first = cli("list", "--limit", "2", "-f", "json")
    last = cli("list", "--limit", "2", "--after", "web-4", "-f", "json")

    assert [one["name"] for one in json_of(first)] == ["web-1", "web-2"]
    assert "There are more: --limit 2 --after web-2" in first.stderr
    assert ([one["name"] for one in json_of(last)], last.stderr) == (["web-5"], "")
    of_host = cli("list", "--host", HOST, "--limit", "1", "-f", "json")
    assert [one["name"] for one in json_of(of_host)] == ["web-1"]
