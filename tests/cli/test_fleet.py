"""Hosts, aggregates, server groups, batches, plans and `why` from the command line."""

from dataclasses import replace
from typing import Any

import pytest

from taskvisor.model.aggregate import Aggregate
from taskvisor.model.errors import NoCapacity
from taskvisor.model.ids import HostName, OperationId, ServerGroupId
from taskvisor.model.placement import Choice, Explanation, Weighed, WeighedHost
from taskvisor.model.server_group import GroupPolicy, ServerGroup
from taskvisor.state.codec import encode
from taskvisor.state.explanations import Explanations
from taskvisor.state.keys import Keys
from tests.cli.book import Book, instance, operation, succeeded
from tests.cli.conftest import PREFIX, Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

KEYS = Keys(PREFIX)
ROW = {
    "host": "host-2",
    "rule": "capacity",
    "reason": "memory_mib 512 asked, 100 of 4096 free",
    "remedy": "memory_mib: free 412 more here, or ask for at most 100",
}
CHOICE = Choice(
    hosts=40,
    fitting=1,
    refused={"capacity": 39},
    left_out=38,
    best=(
        WeighedHost(
            host=HostName("host-1"), score=0.5, parts={"memory": Weighed(number=4096.0, share=0.5, weight=1.0)}
        ),
    ),
)


@pytest.mark.parametrize(
    ("words", "task", "fields", "said"),
    [
        (("host", "enable", "h1"), "host.enable", {"host": "h1"}, "h1 takes new instances"),
        (
            ("host", "disable", "h1", "--reason", "new disks"),
            "host.disable",
            {"host": "h1", "reason": "new disks"},
            "h1 takes no new instances",
        ),
        (
            ("host", "label", "h1", "gpu=a100", "fast", "old-"),
            "host.label",
            {"host": "h1", "labels": {"gpu": "a100", "fast": ""}, "remove": ["old"]},
            "h1 bears these labels",
        ),
        (
            ("aggregate", "create", "east", "ssd=true", "--zone", "east", "--host", "h1"),
            "aggregate.create",
            {"name": "east", "hosts": ["h1"], "properties": {"ssd": "true", "availability_zone": "east"}},
            "east is recorded",
        ),
        (
            ("aggregate", "set", "east", "ssd=no", "fast-"),
            "aggregate.set",
            {"aggregate": "east", "properties": {"ssd": "no"}, "remove": ["fast"]},
            "east has these properties",
        ),
        (
            ("aggregate", "add-host", "east", "h2"),
            "aggregate.add_host",
            {"aggregate": "east", "host": "h2"},
            "east has that host",
        ),
        (
            ("aggregate", "remove-host", "east", "h2"),
            "aggregate.remove_host",
            {"aggregate": "east", "host": "h2"},
            "east does not have that host",
        ),
        (("aggregate", "delete", "east"), "aggregate.delete", {"aggregate": "east"}, "east is deleted"),
        (
            ("server-group", "create", "db", "--policy", "anti-affinity", "--per-host", "2"),
            "server_group.create",
            {"name": "db", "policy": "anti-affinity", "servers_per_host": 2},
            "db is recorded",
        ),
        (("server-group", "delete", "db"), "server_group.delete", {"server_group": "db"}, "db is deleted"),
    ],
)
def test_what_is_typed_is_asked_and_how_it_ended_is_told(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], task: str, fields: dict[str, Any], said: str
) -> None:
    worker.answers[task] = lambda _: {}

    result = cli(*words)

    assert (result.exit_code, result.stdout) == (0, f"{said}\n"), result.stderr
    ((asked_task, asked_fields),) = [(one.task, one.fields) for one in worker.asked]
    assert (asked_task, asked_fields) == (task, fields)


def test_what_was_so_already_exits_with_three(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["aggregate.delete"] = lambda _: {"name": "east", "already": True}
    worker.answers["host.label"] = lambda _: {"name": "h1", "already": True}

    for words, said in (
        (("aggregate", "delete", "east"), "there is none such"),
        (("host", "label", "h1", "a=b"), "already"),
    ):
        result = cli(*words)
        assert result.exit_code == 3
        assert said in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("host", "label", "h1", "a b=c"), "labels"),
        (("host", "label", "h1", "a=b", "a=c"), "a: is given twice"),
        (("host", "label", "h1", "a=b", "a-"), "remove: a: is given a value too"),
        (("host", "disable", "h1"), "--reason"),
        (("aggregate", "create", "a", "x-"), "a new aggregate has no properties to take away"),
        (("server-group", "create", "g", "--policy", "near"), "near"),
        (("server-group", "create", "g", "--policy", "affinity", "--per-host", "2"), "goes with anti-affinity only"),
        (("launch", "/i", "-n", "web", "--count", "3", "--min-count", "4"), "min_count: 4: is more than count 3"),
        (("launch", "/i", "-n", "web", "--require", "a b"), "require_labels.0: 'a b'"),
        (("launch", "/i", "-n", "web", "--count", "3", "--dry-run"), "leave out --count"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli(*words)

    assert (result.exit_code, worker.asked) == (2, [])
    assert said in result.stderr


def test_a_launch_says_where_it_may_go(cli: Cli, worker: FakeWorker) -> None:
    def refuse(asked: Asked) -> object:
        raise NoCapacity("no host fits")

    worker.answers["instance.build"] = refuse
    words = ("--zone", "east", "--server-group", "db", "--require", "gpu=a100", "--forbid", "old")

    assert cli("launch", "/i", "-n", "web", *words).exit_code == 5

    fields = worker.asked[0].fields
    assert {key: fields[key] for key in ("availability_zone", "server_group", "require_labels", "forbid_labels")} == {
        "availability_zone": "east",
        "server_group": "db",
        "require_labels": ["gpu=a100"],
        "forbid_labels": ["old"],
    }


def test_several_are_launched_by_one_request_and_each_is_followed(cli: Cli, worker: FakeWorker, book: Book) -> None:
    def let_in(asked: Asked) -> object:
        members = []
        for number in (1, 2):
            guest = instance(f"web-{number}")
            book.put_operation(succeeded(operation(f"{asked.operation_id}-{number}", guest), guest))
            members.append(
                {"operation": f"{asked.operation_id}-{number}", "name": guest.name, "id": guest.id, "host": "h"}
            )
        return {"asked": 3, "operations": members, "why_not_all": "no host has room for more"}

    worker.answers["instance.build_many"] = let_in

    result = cli("launch", "/i", "-n", "web", "--count", "3", "--min-count", "1", "--id", "many")

    assert result.exit_code == 0, result.stderr
    assert [line.partition(" on ")[0] for line in result.stdout.splitlines()] == [
        "web-1 is running",
        "web-2 is running",
    ]
    assert "2 of 3 were let in: no host has room for more" in result.stderr
    (asked,) = worker.asked
    assert (asked.operation_id, asked.fields["count"], asked.fields["min_count"]) == ("many", 3, 1)


def test_several_that_do_not_fit_are_no_capacity(cli: Cli, worker: FakeWorker) -> None:
    def refuse(asked: Asked) -> object:
        raise NoCapacity("2 of 3 would fit, and 3 are the least")

    worker.answers["instance.build_many"] = refuse

    result = cli("launch", "/i", "-n", "web", "--count", "3")

    assert (result.exit_code, "2 of 3 would fit" in result.stderr) == (5, True)


def test_a_dry_run_shows_what_a_build_would_come_to(cli: Cli, worker: FakeWorker) -> None:
    plan = {
        "host": "host-1",
        "placement": {"refusals": [ROW], "choice": None},
        "disks": [
            {
                "device": "vda",
                "role": "root",
                "bus": "virtio",
                "format": "qcow2",
                "size_bytes": 1 << 30,
                "path": "/d/root",
            }
        ],
        "nics": [
            {
                "tap": "tap1",
                "bridge": "brq1",
                "mac": "52:54:00:00:00:01",
                "address": "10.1.0.2",
                "kind": "nat",
                "mtu": 1500,
            }
        ],
        "xml": "<domain>\x1b[31m</domain>",
        "allocated": ["the address of NIC 0 is the next likely one"],
    }
    worker.answers["instance.plan"] = lambda _: plan

    result = cli("launch", "/i", "-n", "web", "--dry-run")

    assert result.exit_code == 0, result.stderr
    for said in ("host-1", "vda", "1.0 GiB", "tap1", "10.1.0.2", "<domain></domain>", ROW["reason"]):
        assert said in result.stdout
    assert "Nothing was touched" in result.stderr
    assert json_of(cli("launch", "/i", "-n", "web", "--dry-run", "-f", "json")) == plan


@pytest.mark.parametrize("what", ["build-web-1", "web-1"])
def test_why_tells_of_a_build_and_of_an_instance(cli: Cli, book: Book, what: str) -> None:
    guest = instance("web-1")
    book.put_instance(guest)
    book.put_operation(replace(operation("build-web-1", guest), placement=(ROW,), choice=CHOICE))

    result = cli("why", what)

    assert result.exit_code == 0, result.stderr
    for said in (
        "40 looked at, 1 fitted",
        "capacity 39",
        "38 hosts that were refused",
        "memory 4096 (0.50 x 1)",
        ROW["reason"],
        ROW["remedy"],
    ):
        assert said in result.stdout
    told_json = json_of(cli("why", what, "-f", "json"))
    assert (told_json["host"], told_json["refusals"], told_json["choice"]["fitting"]) == ("host-1", [ROW], 1)


def test_why_tells_of_a_build_that_was_refused(cli: Cli, book: Book) -> None:
    why = Explanation(rows=(ROW,), choice=replace(CHOICE, fitting=0, best=()))
    Explanations(book.client, KEYS).note(OperationId("op-9"), why)

    result = cli("why", "op-9")

    assert result.exit_code == 0, result.stderr
    assert ["Host", "none"] in [line.split() for line in result.stdout.splitlines()]
    assert ROW["remedy"] in result.stdout


@pytest.mark.parametrize(
    ("what", "said"),
    [("nosuch", "no such operation is known"), ("stop-1", "is no build"), ("old", "is not recorded any more")],
)
def test_why_says_when_there_is_nothing_to_tell(cli: Cli, book: Book, what: str, said: str) -> None:
    book.put_instance(instance("old"))
    book.put_operation(replace(operation("stop-1", instance("old")), flow="instance.stop"))

    result = cli("why", what)

    assert (result.exit_code, said in result.stderr) == (1, True), result.stderr


def test_aggregates_and_server_groups_are_listed_and_shown(cli: Cli, book: Book) -> None:
    guest = instance("db-1")
    book.put_instance(guest)
    aggregate = Aggregate(name="east", hosts=(HostName("h1"),), properties={"availability_zone": "east", "ssd": "true"})
    group = ServerGroup(id=ServerGroupId("g1"), name="db", policy=GroupPolicy.ANTI_AFFINITY)
    book.client.hset(KEYS.aggregates, "east", encode(aggregate))
    book.client.hset(KEYS.server_groups, "db", "g1")
    book.client.set(KEYS.server_group("g1"), encode(group))
    book.client.hset(KEYS.servers("g1"), guest.id, "h1")

    assert ["east", "east", "1", "ssd=true"] in [line.split() for line in cli("aggregate", "list").stdout.splitlines()]
    assert json_of(cli("aggregate", "show", "east", "-f", "json"))["hosts"] == ["h1"]
    assert "ssd=true" in cli("aggregate", "show", "east").stdout
    assert "db    anti-affinity" in cli("server-group", "list").stdout
    assert ["db-1", "h1", guest.id] in [line.split() for line in cli("server-group", "show", "db").stdout.splitlines()]
    assert json_of(cli("server-group", "show", "g1", "-f", "json"))["members"] == {guest.id: "h1"}
    for words in (("aggregate", "show", "x"), ("server-group", "show", "x")):
        assert cli(*words).exit_code == 1


def test_hosts_tell_their_labels_zone_and_failed_builds(cli: Cli, book: Book) -> None:
    book.put_host("h1")
    book.client.hset(KEYS.host("h1"), mapping={"labels": '{"gpu":"a100"}', "failed_builds": "3"})
    book.client.hset(
        KEYS.aggregates,
        "east",
        encode(Aggregate(name="east", hosts=(HostName("h1"),), properties={"availability_zone": "east"})),
    )

    (host,) = json_of(cli("hosts", "-f", "json"))

    assert (host["labels"], host["zone"], host["aggregates"], host["failed_builds"]) == (
        {"gpu": "a100"},
        "east",
        ["east"],
        3,
    )
