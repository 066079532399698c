"""`taskvisor rebuild`: what is refused, what is shown, and what becomes of the store when it does not go through."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from taskvisor.model.holdings import GuestHeld, HostHoldings, NetworkCopy
from taskvisor.model.network import Network, NetworkKind, Surroundings
from taskvisor.model.observed import DomainFacts
from taskvisor.model.rebuilding import Rebuild
from taskvisor.model.records import Instance, Inventory, Resources
from taskvisor.model.states import PowerState, VirtType
from taskvisor.state.closing import Closing
from taskvisor.state.rebuilding import Rebuilding
from tests.cli.book import HOST, Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

WEB, DB = instance("web-1"), instance("db")
NET = Network(id=WEB.ports[0].network_id, name="lan", kind=NetworkKind.NAT, cidr="10.152.0.0/16", gateway="10.152.0.1")
QUICK = ("--hosts", HOST, "--wait", "20")


def guest(record: Instance) -> GuestHeld:
    domain = DomainFacts(instance_id=record.id, name="i", power_state=PowerState.RUNNING, boot_id=1, owned=True)
    return GuestHeld(
        instance_id=record.id, domain=domain, defined=record, copy=record, macs=tuple(port.mac for port in record.ports)
    )


def has(*records: Instance) -> Callable[[Asked], object]:
    """A host with these guests, and the network that they are on."""
    copy = NetworkCopy(network_id=NET.id, told_at=1.0, around=Surroundings(network=NET))
    told = HostHoldings(
        host=HOST,
        looked_at=1.0,
        guests=tuple(map(guest, records)),
        images=(),
        image_files=(),
        networks=(copy,),
        links=(),
        dhcp=(),
        volumes=(),
    )
    return lambda _: msgspec.to_builtins(told)


@pytest.fixture
def closing(book: Book) -> Closing:
    return Closing(book.client, book.keys)


@pytest.fixture
def lost(book: Book, worker: FakeWorker) -> FakeWorker:
    """A store that lost its records; the host has the guest web-1, and reports itself when it is asked to."""

    def report(_: Asked) -> None:
        room = Resources(vcpus=8, memory_mib=8192, disk_gib=100)
        inventory = Inventory(
            total=room,
            limits=room,
            arch="x86_64",
            virt_type=VirtType.QEMU,
            hypervisor_version="1",
            domains=1,
            disk_free_gib=100,
            reported_at=1.0,
        )
        book.hosts.write_inventory(HOST, inventory)

    worker.answers = {"host.tell": has(WEB), "host.track": report}
    return worker


def names(book: Book) -> list[str]:
    return [one.name for one in book.catalog.list_instances()]


def test_it_is_said_what_is_to_be_done(cli: Cli) -> None:
    result = cli("rebuild")
    assert result.exit_code == 2
    assert "say one of --from-hosts, --close and --open" in result.stderr
    assert cli("rebuild", "--open", "--close").exit_code == 2


def test_what_the_host_has_is_written_and_the_store_is_open(
    cli: Cli, book: Book, lost: FakeWorker, closing: Closing
) -> None:
    closing.close("it was flushed", 1.0)

    result = cli("rebuild", "--from-hosts", *QUICK)

    assert result.exit_code == 0
    assert (
        "Written, and the store is open: 1 networks, 0 security groups, 0 floating addresses, 1 instances"
        in result.stderr
    )
    head, line = result.stdout.splitlines()
    assert (head.split(), line.split()) == (
        ["HOST", "GUESTS", "INSTANCES", "IMAGES", "TOLD"],
        [HOST, "1", "1", "0", "1", "networks"],
    )
    assert (names(book), closing.reason()) == (["web-1"], None)
    assert [asked.task for asked in lost.asked] == ["host.track", "host.tell", "host.track"]
    assert [host.instances for host in book.hosts.list_hosts()] == [1]


def test_a_dry_run_writes_nothing_and_closes_nothing(cli: Cli, book: Book, lost: FakeWorker) -> None:
    result = cli("rebuild", "--from-hosts", "--dry-run", *QUICK, "-f", "json")

    assert result.exit_code == 0
    told = json_of(result)
    assert (told["written"], told["counts"]["instances"]) == (False, 1)
    assert [asked.task for asked in lost.asked] == ["host.tell"]
    assert book.client.keys(f"{book.keys.prefix}*") == []


def test_a_store_that_is_not_empty_is_left_alone_unless_it_is_added_to(cli: Cli, book: Book, lost: FakeWorker) -> None:
    book.put_instance(replace(DB, ports=()))
    lost.answers["host.tell"] = has(WEB)

    result = cli("rebuild", "--from-hosts", *QUICK)
    assert (result.exit_code, lost.asked) == (1, [])
    assert "the store is not empty: it has 1 instances and 0 networks; add --merge" in result.stderr

    assert cli("rebuild", "--from-hosts", "--merge", *QUICK).exit_code == 0
    assert names(book) == ["db", "web-1"]
    again = cli("rebuild", "--from-hosts", "--merge", *QUICK, "-f", "json")
    assert (again.exit_code, json_of(again)["counts"]["instances"]) == (0, 0)


def test_a_silent_host_leaves_the_store_closed_and_unwritten(
    cli: Cli, book: Book, lost: FakeWorker, closing: Closing
) -> None:
    result = cli("rebuild", "--from-hosts", "--hosts", f"{HOST},host-2", "--wait", "3")

    assert result.exit_code == 1
    assert (
        "host host-2 did not tell what it has: start its worker, or go on with --without-host host-2" in result.stderr
    )
    assert (names(book), closing.reason() is None) == ([], False)

    words = ("--hosts", f"{HOST},host-2", "--without-host", "host-2", "--wait", "20")
    assert cli("rebuild", "--from-hosts", *words).exit_code == 0
    assert (names(book), closing.reason()) == (["web-1"], None)


def test_a_conflict_is_shown_with_what_to_do_and_decided_by_leaving_one_out(
    cli: Cli, book: Book, lost: FakeWorker
) -> None:
    lost.answers["host.tell"] = has(WEB, DB)  # with one address

    result = cli("rebuild", "--from-hosts", *QUICK)
    assert (result.exit_code, names(book)) == (1, [])
    assert "address-taken" in result.stdout
    assert "--leave-out ID of it, and shut it down on its host" in result.stdout

    younger = max((WEB, DB), key=lambda one: (one.created_at, one.id))
    assert cli("rebuild", "--from-hosts", "--leave-out", younger.id, *QUICK).exit_code == 0
    assert len(names(book)) == 1


def test_a_merge_that_fails_leaves_a_store_that_was_open_open(
    cli: Cli, book: Book, lost: FakeWorker, closing: Closing
) -> None:
    book.put_instance(replace(DB, ports=()))

    result = cli("rebuild", "--from-hosts", "--merge", "--hosts", "host-2", "--wait", "1")

    assert (result.exit_code, closing.reason(), names(book)) == (1, None, ["db"])


def test_nothing_is_added_while_operations_are_under_way(cli: Cli, book: Book, lost: FakeWorker) -> None:
    book.put_instance(replace(DB, ports=()))
    book.client.zadd(book.keys.unsettled, {"some": 1.0})

    result = cli("rebuild", "--from-hosts", "--merge", *QUICK)

    assert result.exit_code == 1
    assert "1 operations are under way; wait for their end" in result.stderr
    assert lost.asked == []


class Killed(BaseException):
    """The process that runs the command is no more."""


@pytest.mark.parametrize("written", [False, True])
def test_a_death_in_the_midst_comes_to_the_same_end_when_it_is_run_again(
    cli: Cli, book: Book, lost: FakeWorker, closing: Closing, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    write = Rebuilding.write

    def die(self: Rebuilding, found: Rebuild, at: float) -> None:
        if written:
            write(self, found, at)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Rebuilding, "write", die)
        with pytest.raises(Killed):
            cli("rebuild", "--from-hosts", *QUICK)
    assert (names(book), closing.reason() is None) == ((["web-1"], True) if written else ([], False))

    again = cli("rebuild", "--from-hosts", *QUICK)
    assert again.exit_code == (1 if written else 0)  # 1: the store is not empty
    assert cli("rebuild", "--from-hosts", "--merge", *QUICK).exit_code == 0
    assert (names(book), closing.reason()) == (["web-1"], None)
    assert [host.used for host in book.hosts.list_hosts()] == [Resources(vcpus=1, memory_mib=128, disk_gib=1)]


def test_a_host_of_another_version_is_silent_and_said_to_be_of_another_version(cli: Cli, lost: FakeWorker) -> None:
    lost.answers["host.tell"] = lambda _: {"guests": "many"}
    result = cli("rebuild", "--from-hosts", *QUICK)
    assert result.exit_code == 1
    assert "answered what this version does not understand" in result.stderr


def test_a_store_is_closed_and_opened_by_hand(cli: Cli, closing: Closing) -> None:
    assert cli("rebuild", "--close").exit_code == 0
    assert "it is being rebuilt from its hosts" in str(closing.reason())
    assert cli("rebuild", "--open").exit_code == 0
    assert closing.reason() is None
    assert not closing.close_if_flushed("somebody thinks so", 1.0)
