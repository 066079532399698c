"""`taskvisor orphans`: what is in quarantine, what becomes of it, and what is to stay."""

from taskvisor.model.ids import InstanceId
from taskvisor.model.orphan import Orphan, OrphanKind, Stray
from taskvisor.state.codec import encode
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import FakeWorker

LOST = InstanceId(instance("lost").id)


def put_orphan(book: Book, kind: OrphanKind = OrphanKind.DOMAIN, *, kept: bool = False) -> None:
    stray = Stray(kind=kind, subject=LOST, instance_id=LOST, said="domain instance-lost is running")
    orphan = Orphan(stray=stray, first_seen=1_700_000_000.0, last_seen=1_700_001_800.0, times=2, kept=kept)
    book.client.hset(book.keys.orphans("host-1"), stray.key, encode(orphan))


def test_an_empty_quarantine_says_so(cli: Cli, book: Book) -> None:
    book.put_host()
    result = cli("orphans")
    assert (result.exit_code, json_of(cli("orphans", "-f", "json"))) == (0, [])
    assert "Nothing is in quarantine" in result.stderr


def test_what_becomes_of_an_orphan_and_when_is_shown(cli: Cli, book: Book) -> None:
    book.put_host()
    put_orphan(book)
    (found,) = json_of(cli("orphans", "-f", "json"))
    assert (found["host"], found["kind"], found["times"], found["due_at"]) == ("host-1", "domain", 2, 1_700_003_600.0)
    assert found["fate"] == "is told of in the log, and stays"
    assert "is told of in the log" in cli("orphans", "--host", "host-1").stdout


def test_one_that_is_kept_is_never_due(cli: Cli, book: Book) -> None:
    book.put_host()
    put_orphan(book, kept=True)
    (found,) = json_of(cli("orphans", "-f", "json"))
    assert (found["due_at"], found["fate"]) == (None, "stays: an operator keeps it")


def test_keep_asks_for_it_to_be_kept(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["fleet.keep_orphan"] = lambda _: {"kept": {"host-1": [f"domain {LOST}"]}}
    result = cli("orphans", "keep", LOST)
    assert result.exit_code == 0, result.stderr
    assert [one.fields for one in worker.asked] == [{"orphan": LOST}]
