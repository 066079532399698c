"""`taskvisor verify`: how findings are shown, and what becomes of a host that does not answer."""

import msgspec

from taskvisor.model.drift import Difference, GuestDrift, Holds
from taskvisor.model.errors import CannotAsk
from taskvisor.model.finding import ADVICE, Code
from taskvisor.model.observed import DomainFacts, HostSeen
from taskvisor.model.states import PowerState
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

STRAY = instance("stray").id


def nothing(_: Asked) -> object:
    """A host without anything."""
    return msgspec.to_builtins(HostSeen(looked_at=1.0, domains=(), directories=(), links=(), dhcp=(), images=()))


def with_stray(_: Asked) -> object:
    """A host with a domain of ours that nobody knows."""
    domain = DomainFacts(
        instance_id=STRAY, name="instance-stray", power_state=PowerState.RUNNING, boot_id=1, owned=True
    )
    return msgspec.to_builtins(HostSeen(looked_at=1.0, domains=(domain,), directories=(), links=(), dhcp=(), images=()))


def test_an_empty_fleet_has_no_findings(cli: Cli) -> None:
    result = cli("verify")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Nothing was found: what is recorded is what is there.\n"
    assert json_of(cli("verify", "-f", "json")) == []


def test_a_host_as_it_should_be_is_no_finding(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_host()
    worker.answers["host.verify"] = nothing
    assert cli("verify").exit_code == 0
    assert len(worker.asked) == 1


def test_what_two_looks_find_is_shown_with_what_to_do(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_host()
    worker.answers["host.verify"] = with_stray
    result = cli("verify")
    assert result.exit_code == 1
    head, line = result.stdout.splitlines()
    assert head.split() == ["CODE", "SUBJECT", "HOST", "WHAT", "IS", "WHAT", "TO", "DO"]
    assert line.startswith(f"domain-without-record  {STRAY}  host-1  domain instance-stray is running")
    assert line.endswith(ADVICE[Code.DOMAIN_WITHOUT_RECORD])
    (found,) = json_of(cli("verify", "--host", "host-1", "-f", "json"))
    assert (found["code"], found["subject"], found["host"]) == ("domain-without-record", STRAY, "host-1")
    assert len(worker.asked) == 4


def test_the_differences_of_a_guest_that_has_drifted_are_told_one_by_one(
    cli: Cli, book: Book, worker: FakeWorker
) -> None:
    book.put_host()
    guest = instance("web-1")
    book.put_instance(guest)
    difference = Difference(code="drift.vcpus", place="vcpu", recorded="1", found="4", holds=Holds.UNTIL_NEXT_START)
    drift = GuestDrift(instance_id=guest.id, differences=(difference,))
    worker.answers["host.verify"] = lambda _: {
        **msgspec.to_builtins(HostSeen(looked_at=1.0, domains=(), directories=(), links=(), dhcp=(), images=())),
        "drifts": [msgspec.to_builtins(drift)],
    }
    found = {finding["code"]: finding for finding in json_of(cli("verify", "-f", "json"))}["guest-drifted"]
    assert found["differences"] == [
        {"code": "drift.vcpus", "place": "vcpu", "recorded": "1", "found": "4", "holds": "until its next start"}
    ]
    assert "drift.vcpus (vcpu): 1 is recorded, 4 is there, until its next start" in found["message"]
    assert "reboot --hard" in found["advice"]


def test_a_host_of_an_older_version_tells_of_no_drift(cli: Cli, book: Book, worker: FakeWorker) -> None:
    def answer(_: Asked) -> object:
        seen = msgspec.to_builtins(HostSeen(looked_at=1.0, domains=(), directories=(), links=(), dhcp=(), images=()))
        return {name: value for name, value in seen.items() if name != "drifts"}

    book.put_host()
    worker.answers["host.verify"] = answer
    assert cli("verify").exit_code == 0


def test_what_only_the_first_look_finds_is_not_shown(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_host()
    looks = iter([with_stray, nothing])

    def next_look(asked: Asked) -> object:
        return next(looks)(asked)

    worker.answers["host.verify"] = next_look
    assert cli("verify").exit_code == 0
    assert len(worker.asked) == 2


def test_a_host_that_does_not_answer_in_time_is_a_finding_and_its_guests_are_none(cli: Cli, book: Book) -> None:
    book.put_host()
    book.put_instance(instance("web-1"))
    result = cli("verify", "--wait", "0.2", "-f", "json")
    assert result.exit_code == 1
    assert "host host-1 did not tell what it has" in result.stderr
    found = {finding["code"] for finding in json_of(result)}
    assert "host-silent" in found
    assert found.isdisjoint({"domain-missing", "directory-missing"})


def test_a_host_that_can_not_ask_its_hypervisor_is_silent(cli: Cli, book: Book, worker: FakeWorker) -> None:
    def refuse(_: Asked) -> object:
        raise CannotAsk("libvirtd did not answer")

    book.put_host()
    worker.answers["host.verify"] = refuse
    result = cli("verify", "-f", "json")
    assert [finding["code"] for finding in json_of(result)] == ["host-silent"]
    assert "host host-1 did not tell what it has: libvirtd did not answer" in result.stderr


def test_an_answer_that_is_not_understood_is_none(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_host()
    worker.answers["host.verify"] = lambda _: {"domains": "many"}
    result = cli("verify", "-f", "json")
    assert [finding["code"] for finding in json_of(result)] == ["host-silent"]
    assert "is its worker of another version?" in result.stderr


def test_a_host_that_nobody_knows_is_refused(cli: Cli) -> None:
    result = cli("verify", "--host", "nonesuch")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no host 'nonesuch'; see `taskvisor hosts`" in result.stderr


def test_one_host_is_asked_and_told_of_alone(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_host()
    book.put_host("host-2", alive_s=0)
    worker.answers["host.verify"] = nothing
    assert cli("verify", "--host", "host-1").exit_code == 0
    assert [finding["host"] for finding in json_of(cli("verify", "-f", "json"))] == ["host-2"]
