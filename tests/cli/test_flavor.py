"""Flavors, projects and histories from the command line: what is sent, what is told, and the exit code."""

import pytest
import redis

from taskvisor.model.flavor_record import FlavorRecord
from taskvisor.model.history import Cause
from taskvisor.model.ids import FlavorId
from taskvisor.model.records import Flavor
from taskvisor.model.states import PowerState, TaskState, VmState
from taskvisor.state.flavors import FlavorChanges, Flavors
from taskvisor.state.history import record_move
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer
from tests.cli.book import Book, instance
from tests.cli.conftest import PREFIX, Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

OWN = FlavorRecord(
    id=FlavorId("7"),
    flavor=Flavor(name="own", vcpus=2, memory_mib=256, disk_gib=3, swap_mib=64, extra_specs={"hw:cpu_cores": "2"}),
    public=False,
    projects=("lab", "web"),
)


def told(asked: Asked) -> object:
    return {"id": "i", "name": "own", **dict(asked.fields)}


@pytest.fixture
def own(redis_url: str) -> FlavorRecord:
    """A private flavor is there."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = Keys(PREFIX)
        writer = Writer(keys=keys, operation_keep_s=60, events_kept=10, outcome_for=lambda *_: None)
        answer = Outcome(key="told", payload="{}", keep_s=60)
        FlavorChanges(client, writer).create(OWN, Flavors(client, keys).read_revision(), answer)
    return OWN


def test_creating_a_flavor_sends_all_that_was_typed(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["flavor.create"] = told
    words = ["--vcpus", "2", "--memory", "256", "--disk", "3", "--swap", "64", "--ephemeral", "5", "--flavor-id", "7"]
    words += ["--extra-spec", "hw:cpu_cores=2", "--private", "--project", "lab", "--project", "web", "--id", "make"]

    result = cli("flavor", "create", "own", *words)

    assert (result.exit_code, result.stdout) == (0, "own is recorded\n"), result.stderr
    fields = {
        "name": "own",
        "vcpus": 2,
        "memory_mib": 256,
        "disk_gib": 3,
        "swap_mib": 64,
        "ephemeral_gib": 5,
        "extra_specs": {"hw:cpu_cores": "2"},
        "public": False,
        "projects": ["lab", "web"],
        "id": "7",
    }
    assert worker.asked == [Asked(task="flavor.create", operation_id="make", fields=fields)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("create", "own", "--vcpus", "1", "--memory", "0"),
            "memory_mib: 0: input should be greater than or equal to 16",
        ),
        (("create", "c1-m64-d1", "--vcpus", "1", "--memory", "64"), "spells out a size, which needs no record"),
        (("create", "own", "--vcpus", "1", "--memory", "64", "--project", "lab"), "a public flavor is everybody's"),
        (
            ("create", "own", "--vcpus", "1", "--memory", "64", "--extra-spec", "x"),
            "--extra-spec 'x': must be KEY=VALUE",
        ),
        (("set", "own", "hw:cpu_cores"), "KEY=VALUE 'hw:cpu_cores': must be KEY=VALUE"),
        (("access", "add", "own", "la/b"), "project: 'la/b': must be 1 to 63 letters"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli("flavor", *words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert worker.asked == []


@pytest.mark.parametrize(
    ("words", "task", "fields", "said"),
    [
        (("set", "own", "a=1", "b=2"), "flavor.set", {"extra_specs": {"a": "1", "b": "2"}}, "has these extra specs"),
        (("unset", "own", "a", "b"), "flavor.unset", {"keys": ["a", "b"]}, "has none of these extra specs"),
        (("access", "add", "own", "lab"), "flavor.add_access", {"project": "lab"}, "may be had by these projects"),
        (
            ("access", "remove", "own", "lab"),
            "flavor.remove_access",
            {"project": "lab"},
            "may not be had by these projects",
        ),
        (("delete", "own"), "flavor.delete", {}, "is deleted"),
    ],
)
def test_a_change_is_sent_and_told(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], task: str, fields: dict[str, object], said: str
) -> None:
    worker.answers[task] = told

    result = cli("flavor", *words)

    assert (result.exit_code, result.stdout) == (0, f"own {said}\n"), result.stderr
    assert [(asked.task, asked.fields) for asked in worker.asked] == [(task, {"flavor": "own", **fields})]


def test_the_default_flavors_are_listed_before_any_is_recorded(cli: Cli) -> None:
    names = [flavor["name"] for flavor in json_of(cli("flavor", "list", "-f", "json"))]

    assert names == ["m1.large", "m1.medium", "m1.small", "m1.tiny", "m1.xlarge"]


def test_flavors_are_listed_and_shown_with_whose_they_are(cli: Cli, own: FlavorRecord) -> None:
    listed = cli("flavor", "list").stdout.splitlines()
    assert listed[0].split()[:2] == ["NAME", "CPUS"]
    assert [line.split()[0] for line in listed[1:]] == [
        "m1.large",
        "m1.medium",
        "m1.small",
        "m1.tiny",
        "m1.xlarge",
        "own",
    ]
    assert "lab, web" in listed[-1]
    assert "hw:cpu_cores=2" in listed[-1]
    assert "everybody" in listed[1]

    for project, there in (("lab", True), ("other", False)):
        names = [flavor["name"] for flavor in json_of(cli("flavor", "list", "--project", project, "-f", "json"))]
        assert ("own" in names) is there

    shown = json_of(cli("flavor", "show", "7", "-f", "json"))
    assert (shown["name"], shown["projects"], shown["public"]) == ("own", ["lab", "web"], False)
    assert "2 CPUs" not in cli("flavor", "show", "own").stdout
    assert "Extra spec hw:cpu_cores" in cli("flavor", "show", "own").stdout
    assert cli("flavor", "access", "list", "own").stdout.split() == ["PROJECT", "lab", "web"]
    assert "m1.tiny is public: every project may have it." in cli("flavor", "access", "list", "m1.tiny").stderr


def test_a_flavor_that_is_not_there_is_told(cli: Cli) -> None:
    for words in (("show", "huge"), ("access", "list", "huge")):
        result = cli("flavor", *words)
        assert result.exit_code == 1
        assert "flavor: 'huge': there is no such flavor; see `taskvisor flavor list`" in result.stderr


def test_a_launch_may_have_a_private_flavor_for_its_project_only(
    cli: Cli, worker: FakeWorker, own: FlavorRecord
) -> None:
    worker.answers["instance.build"] = told
    words = ("launch", "/srv/a", "-n", "web-1", "-t", "own")

    refused = cli(*words)
    assert refused.exit_code == 2
    assert "flavor: 'own': there is no such flavor" in refused.stderr
    assert worker.asked == []

    assert cli(*words, "--project", "lab").exit_code == 0
    assert worker.asked[0].fields == {"name": "web-1", "image": "/srv/a", "flavor": "own", "project": "lab"}


def test_a_launch_with_more_extra_specs_keeps_those_of_the_flavor(
    cli: Cli, worker: FakeWorker, own: FlavorRecord
) -> None:
    words = ("launch", "/srv/a", "-n", "web-1", "-t", "own", "--project", "lab", "--extra-spec", "hw:pmu=no")

    worker.answers["instance.build"] = told

    assert cli(*words).exit_code == 0

    (asked,) = worker.asked
    flavor = asked.fields["flavor"]
    assert flavor == {
        "vcpus": 2,
        "memory_mib": 256,
        "disk_gib": 3,
        "swap_mib": 64,
        "ephemeral_gib": 0,
        "extra_specs": {"hw:cpu_cores": "2", "hw:pmu": "no"},
    }


def test_instances_are_listed_by_project_and_shown_with_it(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))
    book.put_instance(instance("lab-1", project="lab"))

    names = [one["name"] for one in json_of(cli("list", "--project", "lab", "-f", "json"))]

    assert names == ["lab-1"]
    assert json_of(cli("show", "lab-1", "-f", "json"))["project"] == "lab"
    assert "Project" in cli("show", "web-1").stdout


def test_a_history_is_shown_newest_first_with_who_and_why(cli: Cli, book: Book) -> None:
    guest = book.put_instance(instance("web-1", vm_state=VmState.ACTIVE, power_state=PowerState.RUNNING))
    tx = Transaction()
    stopping = instance("web-1", vm_state=VmState.ACTIVE, task_state=TaskState.POWERING_OFF)
    cause = Cause(by="stop-1", at=1_700_000_000.0, reason="running", flow="instance.stop", step="shut_down")
    record_move(tx, book.keys, stopping, cause)
    tx.run(book.client, "move")
    assert stopping.id == guest.id

    newest, oldest = json_of(cli("show", "web-1", "--history", "-f", "json"))

    assert (newest["by"], newest["flow"], newest["step"], newest["reason"]) == (
        "stop-1",
        "instance.stop",
        "shut_down",
        "running",
    )
    assert newest["former"] == oldest["states"]
    assert (newest["states"]["task_state"], oldest["former"]) == ("powering-off", None)
    lines = cli("show", "web-1", "--history").stdout.splitlines()
    assert lines[0].split() == ["AT", "FROM", "TO", "POWER", "BY", "WHAT", "WHY"]
    assert "active/powering-off" in lines[1]
    assert "stop shut_down" in lines[1]
