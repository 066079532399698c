"""-f and -c: one record in four forms, and the columns that were asked for in that order."""

import json

import pytest
import yaml

from taskvisor.model.errors import NoCapacity
from tests.cli.book import Book, begun, instance, operation, succeeded
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

LISTS = (
    ("list",),
    ("hosts",),
    ("images",),
    ("networks",),
    ("ops", "list"),
    ("volume", "list", "web-1"),
    ("interface", "list", "web-1"),
    ("flavor", "list"),
    ("aggregate", "list"),
    ("server-group", "list"),
    ("group", "list"),
    ("floating", "list"),
    ("orphans",),
    ("ticks",),
    ("usage",),
)
RECORDS = (
    ("show", "web-1"),
    ("ops", "show", "op-1"),
    ("host", "show", "host-1"),
    ("network", "show", "net-1"),
    ("why", "op-1"),
)


@pytest.fixture
def full(book: Book) -> Book:
    """One of what there is most of."""
    made = instance("web-1")
    book.put_instance(made)
    book.put_host()
    book.put_image("golden")
    book.put_network("net-1")
    book.put_operation(succeeded(begun(operation("op-1", made), "prepare_disk"), made))
    return book


@pytest.mark.parametrize("words", [*LISTS, *RECORDS])
def test_yaml_says_what_json_says(cli: Cli, full: Book, words: tuple[str, ...]) -> None:
    assert yaml.safe_load(cli(*words, "-f", "yaml").stdout) == json_of(cli(*words, "-f", "json"))


@pytest.mark.parametrize("words", LISTS)
def test_a_list_is_one_line_a_row_as_bare_values(cli: Cli, full: Book, words: tuple[str, ...]) -> None:
    rows = json_of(cli(*words, "-f", "json"))
    assert len(cli(*words, "-f", "value").stdout.splitlines()) == len(rows)


@pytest.mark.parametrize("words", RECORDS)
def test_a_record_is_one_line_of_bare_values(cli: Cli, full: Book, words: tuple[str, ...]) -> None:
    assert len(cli(*words, "-f", "value").stdout.splitlines()) == 1


def test_columns_come_in_the_order_that_they_were_asked_for(cli: Cli, full: Book) -> None:
    made = instance("web-1")
    assert cli("list", "-f", "value", "-c", "host", "-c", "NAME", "-c", "id").stdout == f"host-1 web-1 {made.id}\n"
    table = cli("list", "-c", "host", "-c", "Name").stdout.splitlines()
    assert [line.split() for line in table] == [["HOST", "NAME"], ["host-1", "web-1"]]


def test_a_field_of_the_record_is_a_column_and_so_is_a_heading(cli: Cli, full: Book) -> None:
    assert json_of(cli("list", "-f", "json", "-c", "addresses", "-c", "state")) == [
        {"addresses": ["10.152.0.2"], "state": "active"}
    ]
    assert yaml.safe_load(cli("show", "web-1", "-f", "yaml", "-c", "name").stdout) == {"name": "web-1"}
    assert cli("show", "web-1", "-f", "value", "-c", "addresses", "-c", "fault").stdout == "10.152.0.2 -\n"


def test_a_heading_of_two_words_is_typed_with_an_underscore(cli: Cli, full: Book) -> None:
    assert cli("hosts", "-f", "value", "-c", "memory_mib").stdout == "0/4096\n"


@pytest.mark.parametrize("form", ["table", "json", "yaml", "value"])
def test_an_unknown_column_is_refused_with_those_that_there_are(cli: Cli, full: Book, form: str) -> None:
    result = cli("list", "-f", form, "-c", "colour")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "-c colour: there is no such column; there are name, state, address, host" in result.stderr
    assert "created_at" in result.stderr


def test_columns_of_one_command_are_not_those_of_the_next(cli: Cli, full: Book) -> None:
    cli("list", "-c", "name")
    assert "STATE" in cli("list").stdout


def test_what_there_is_not_takes_its_place_as_a_dash(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1", ports=()))
    assert cli("list", "-f", "value", "-c", "address", "-c", "name").stdout == "- web-1\n"


def test_several_instances_are_a_list_and_one_is_an_object(cli: Cli, book: Book) -> None:
    for name in ("web-1", "web-2"):
        book.put_instance(instance(name))
    assert json_of(cli("show", "web-1", "-f", "json"))["name"] == "web-1"
    assert [one["name"] for one in json_of(cli("show", "web-1", "web-2", "-f", "json"))] == ["web-1", "web-2"]
    assert cli("show", "web-2", "web-1").stdout.count("Name ") == 2


def test_text_of_strangers_stays_on_its_line(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1", image_name="http://x/\nweb-2 active \x1b[2J"))
    assert cli("list", "-f", "value", "-c", "name", "-c", "image").stdout == "web-1 http://x/ web-2 active\n"
    assert "\x1b" not in cli("list", "-f", "yaml").stdout
    assert json.loads(cli("list", "-f", "json").stdout)[0]["image"] != ""


@pytest.mark.parametrize("words", [("launch", "simulated://x", "--name", "web-9"), ("start", "web-9", "web-8")])
def test_a_request_that_failed_ends_as_it_failed_whatever_columns_are_wanted(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...]
) -> None:
    def refuse(_: Asked) -> object:
        raise NoCapacity("no host fits")

    worker.answers |= {"instance.build": refuse, "instance.start": refuse}

    bare = cli(*words, "-f", "value", "-c", "addresses", "-c", "outcome", "-c", "name")
    shown = json_of(cli(*words, "-f", "json", "-c", "addresses", "-c", "OUTCOME"))

    assert (bare.exit_code, bare.stdout.splitlines()[0]) == (5, "- failed web-9"), bare.stderr
    assert (shown if isinstance(shown, dict) else shown[0]) == {"addresses": None, "OUTCOME": "failed"}


def test_a_request_that_went_well_has_no_error(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.start"] = lambda _: {"name": "web-9", "vm_state": "active"}

    bare = cli("start", "web-9", "-f", "value", "-c", "name", "-c", "error")

    assert (bare.exit_code, bare.stdout) == (0, "web-9 -\n"), bare.stderr
    assert "error" not in json_of(cli("start", "web-9", "-f", "json"))[0]
