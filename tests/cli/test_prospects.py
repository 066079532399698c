"""--dry-run of what takes away: it is told what would go, what stays and what is in the way; and nothing is sent."""

import pytest

from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import FakeWorker


def test_an_instance_goes_with_its_addresses(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_instance(instance("web-1"))
    result = cli("delete", "web-1", "none", "--dry-run", "-f", "json")
    assert json_of(result) == [
        {"subject": "web-1", "prospect": "active on host-1: its domain and disks go; 10.152.0.2 are free then"},
        {"subject": "none", "prospect": None},
    ]
    assert "Nothing was asked for." in result.stderr
    assert worker.asked == []


def test_of_what_is_not_there_nothing_would_go(cli: Cli, book: Book) -> None:
    book.put_host()
    for words in (
        ("delete", "x"),
        ("image", "delete", "x"),
        ("network", "delete", "x"),
        ("group", "delete", "x"),
        ("flavor", "delete", "x"),
        ("aggregate", "delete", "x"),
        ("server-group", "delete", "x"),
        ("floating", "delete", "192.0.2.1"),
        ("floating", "release", "192.0.2.1"),
        ("host", "remove", "x", "--reason", "gone"),
    ):
        result = cli(*words, "--dry-run")
        assert result.exit_code == 3, words
        assert "nothing: there is none such" in result.stdout


def test_what_is_in_the_way_is_named(cli: Cli, book: Book) -> None:
    book.put_network("net")
    book.put_instance(instance("web-1"))
    book.put_host()
    assert "would be refused: ports are on it: web-1" in cli("network", "delete", "net", "--dry-run").stdout
    said = cli("host", "remove", "host-1", "--reason", "gone", "--dry-run").stdout
    assert "would be refused: its worker still speaks" in said


def test_what_is_detached_is_told(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))
    said = cli("interface", "detach", "web-1", "10.152.0.2", "--dry-run").stdout
    assert "NIC 0 on default goes; 10.152.0.2 are free then" in said
    assert cli("volume", "detach", "web-1", "vdb", "--dry-run").exit_code == 3


def test_soft_deletion_keeps_all(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))
    assert "all that it has stays" in cli("delete", "--soft", "--dry-run", "web-1").stdout


@pytest.mark.parametrize("image", ["golden", "{nam}"])
def test_several_snapshots_need_a_name_each(cli: Cli, worker: FakeWorker, image: str) -> None:
    result = cli("snapshot", "web-1", "web-2", image)
    assert result.exit_code == 2
    assert "put {name} into its name" in result.stderr
    worker.answers["instance.snapshot"] = lambda asked: {"name": asked.fields["instance"]}
    cli("snapshot", "web-1", "web-2", "nightly-{name}")
    assert [one.fields["image"] for one in worker.asked] == ["nightly-web-1", "nightly-web-2"]
