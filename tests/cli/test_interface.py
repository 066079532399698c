"""`taskvisor interface` and `launch --network`: what is sent, what is told."""

from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import FakeWorker

VIEW = {"id": "1", "name": "web-1", "vm_state": "active", "host": "host-1", "addresses": [], "volumes": []}


def test_nics_are_attached_and_detached(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.attach_interface"] = worker.answers["instance.detach_interface"] = lambda _: VIEW
    attached = cli("interface", "attach", "web-1", "blue,address=10.9.0.5", "--wait-turn", "5")
    assert (attached.exit_code, attached.stdout) == (0, "web-1 has the NIC on host-1\n")
    detached = cli("interface", "detach", "web-1", "10.9.0.5")
    assert (detached.exit_code, detached.stdout) == (0, "web-1 has let go of the NIC on host-1\n")
    assert [dict(asked.fields) for asked in worker.asked] == [
        {"instance": "web-1", "interface": {"network": "blue", "address": "10.9.0.5"}, "wait_turn_s": 5},
        {"instance": "web-1", "interface": "10.9.0.5"},
    ]


def test_an_address_that_is_none_is_refused_before_anything_is_sent(cli: Cli, worker: FakeWorker) -> None:
    wrong = cli("interface", "attach", "web-1", "blue,address=10.9.0.500")
    assert (wrong.exit_code, worker.asked) == (2, [])
    assert "must be an IPv4 address" in wrong.stderr


def test_the_nics_of_an_instance_are_listed(cli: Cli, book: Book) -> None:
    web = instance("web-1")
    book.put_instance(web)
    (port,) = web.ports
    listed = cli("interface", "list", "web-1")
    assert listed.exit_code == 0
    assert listed.stdout.splitlines()[0].split() == ["NIC", "NETWORK", "MAC", "ADDRESSES", "PORT", "INSTANCE"]
    assert listed.stdout.splitlines()[1].split() == ["0", port.network, port.mac, port.address, port.id, "web-1"]
    (told,) = json_of(cli("interface", "list", "web-1", "-f", "json"))
    assert told == {
        "id": port.id,
        "nic": 0,
        "network": port.network,
        "mac": port.mac,
        "address": port.address,
        "address6": None,
        "instance": "web-1",
    }
