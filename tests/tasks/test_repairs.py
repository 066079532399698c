"""What is put wrong is found, mended, and found no more, with no guest disturbed; what is not safe is refused with a reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from taskvisor.compute.repairs import MENDED
from taskvisor.model.errors import CannotAsk, Conflicting, Refused, TaskvisorError
from taskvisor.model.finding import Code, Finding
from taskvisor.model.observed import DomainFacts
from taskvisor.model.repair import NOT_REPAIRED, REPAIRS
from taskvisor.state.codec import encode
from tests.compute import corruptions
from tests.compute.corruptions import CORRUPTIONS, GHOST, H1, healthy, host, rewrite
from tests.fixtures.machine import ROOT
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.repair_desk import RepairDesk
from tests.support.world import read_everything, read_hosts

BY_HAND_NEVERTHELESS = {
    corruptions.the_running_guest_is_changed: "reboot --hard",  # what it runs with is changed by a start only
    corruptions.the_guest_can_no_longer_be_rendered: "hw:numa",  # the record itself is what can't be
    corruptions.an_operation_waits_for_nobody: "ops cancel",
}
"""Corruptions under a code that is mended, which only a person can mend, and what they are told."""
REBOOTED = {corruptions.the_runner_of_a_step_is_dead}
"""The operation that goes on is a reboot: what it does to its guest is what was asked for."""

Corrupt = Callable[[Fleet], None]


def repairable() -> list[tuple[Corrupt, Code]]:
    return [(corrupt, code) for corrupt, code in CORRUPTIONS if code in REPAIRS and corrupt not in BY_HAND_NEVERTHELESS]


def irreparable() -> list[tuple[Corrupt, str]]:
    by_code = [(corrupt, NOT_REPAIRED[code]) for corrupt, code in CORRUPTIONS if code in NOT_REPAIRED]
    return [*by_code, *BY_HAND_NEVERTHELESS.items()]


def domains_of(fleet: Fleet) -> dict[str, DomainFacts]:
    """The guests that run, with the boots that they run since."""
    found = host(fleet).ports.hypervisor.list_domains()
    return {domain.instance_id: domain for domain in found if domain.boot_id is not None}


def records_of(fleet: Fleet) -> dict[str, str]:
    """Every key but what callers were told."""
    return {name: digest for name, digest in read_everything(fleet.client).items() if not name.startswith("result:")}


def found_in(fleet: Fleet) -> Finding:
    (finding,) = audit(fleet)
    return finding


def test_every_code_is_either_mended_or_has_a_reason_why_not() -> None:
    assert set(REPAIRS) == MENDED
    assert set(REPAIRS) | set(NOT_REPAIRED) == set(Code)
    assert set(REPAIRS) & set(NOT_REPAIRED) == set()


@pytest.mark.parametrize(("corrupt", "code"), repairable(), ids=[corrupt.__name__ for corrupt, _ in repairable()])
def test_what_is_found_is_mended_and_found_no_more_and_no_guest_is_disturbed(
    fleet: Fleet, corrupt: Corrupt, code: Code
) -> None:
    healthy(fleet)
    corrupt(fleet)
    running = domains_of(fleet)
    finding = found_in(fleet)
    assert finding.code is code

    told = RepairDesk(fleet).mend(finding)

    assert told["mended"], told
    assert audit(fleet) == ()
    if corrupt not in REBOOTED:
        assert domains_of(fleet) | running == domains_of(fleet)


@pytest.mark.parametrize(("corrupt", "code"), repairable(), ids=[corrupt.__name__ for corrupt, _ in repairable()])
def test_what_is_mended_already_is_left_alone(fleet: Fleet, corrupt: Corrupt, code: Code) -> None:
    healthy(fleet)
    corrupt(fleet)
    finding, desk = found_in(fleet), RepairDesk(fleet)
    desk.mend(finding)
    before = (
        read_hosts(fleet),
        records_of(fleet),
    )

    told = desk.mend(finding)

    after = (
        read_hosts(fleet),
        records_of(fleet),
    )
    assert not told["mended"], (code, told)
    assert after == before


@pytest.mark.parametrize(("corrupt", "why"), irreparable(), ids=[corrupt.__name__ for corrupt, _ in irreparable()])
def test_what_only_a_person_can_mend_is_refused_with_the_reason_and_nothing_is_changed(
    fleet: Fleet, corrupt: Corrupt, why: str
) -> None:
    healthy(fleet)
    corrupt(fleet)
    finding = found_in(fleet)
    before = read_hosts(fleet), read_everything(fleet.client)

    with pytest.raises(Refused, match=why.replace("(", r"\(").replace("`", ".")):
        RepairDesk(fleet).mend(finding)

    assert (read_hosts(fleet), read_everything(fleet.client)) == before


def mended_under(
    desk: RepairDesk, finding: Finding, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]
) -> object:
    """A repair, where `meanwhile` happens after the records were read and before any is written."""
    store = desk.fleet.store
    happened: list[object] = []
    carry_out = store.repairs.carry_out

    def late(*args: object) -> None:
        if not happened:
            happened.append(meanwhile())
        carry_out(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(store.repairs, "carry_out", late)
        return desk.mend(finding)


def test_a_name_that_an_instance_gets_meanwhile_is_left_to_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    corruptions.a_name_is_left(healthy(fleet))
    finding, desk = found_in(fleet), RepairDesk(fleet)

    def taken() -> None:
        fleet.client.set(
            KEYS.instance(GHOST), encode(replace(fleet.instance(), id=GHOST, name="ghost", ports=(), volumes=()))
        )

    told = mended_under(desk, finding, monkeypatch, taken)
    assert told["mended"] is False  # type: ignore[index]
    assert fleet.client.hget(KEYS.names, "ghost") == GHOST


def test_a_claim_whose_instance_comes_meanwhile_is_left_to_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    corruptions.a_claim_is_left(healthy(fleet))
    finding, desk = found_in(fleet), RepairDesk(fleet)

    def come() -> None:
        fleet.client.set(
            KEYS.instance(GHOST), encode(replace(fleet.instance(), id=GHOST, name="ghost", ports=(), volumes=()))
        )

    mended_under(desk, finding, monkeypatch, come)
    assert fleet.client.hget(KEYS.claims(H1), GHOST) is not None


def test_a_lease_that_is_taken_by_another_meanwhile_is_left_to_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    corruptions.a_lease_is_held_by_nobody(healthy(fleet))
    finding, desk, key = found_in(fleet), RepairDesk(fleet), KEYS.lease(fleet.instance().id)
    mended_under(desk, finding, monkeypatch, lambda: fleet.client.hset(key, "token", 2))
    # It was looked at again: the lease is nobody's still, and so it is given back as it is now.
    assert fleet.client.exists(key) == 0


def test_records_that_never_hold_still_are_left_alone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    corruptions.the_record_says_that_something_is_being_done(healthy(fleet))
    finding, desk, numbers = found_in(fleet), RepairDesk(fleet), iter(range(100))
    carry_out = fleet.store.repairs.carry_out

    def late(*args: object) -> None:
        rewrite(fleet, metadata={"touched": str(next(numbers))})
        carry_out(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet.store.repairs, "carry_out", late)
    with pytest.raises(Conflicting, match="the records moved 10 times"):
        desk.mend(finding)
    assert fleet.instance().task_state is not None


def test_a_host_that_fell_silent_is_not_asked_and_nothing_is_done(fleet: Fleet) -> None:
    corruptions.the_domain_is_removed(healthy(fleet))
    finding = found_in(fleet)
    corruptions.the_host_falls_silent(fleet)
    before = read_hosts(fleet), records_of(fleet)
    with pytest.raises(Refused, match="h1 is not heard of, so it can't be asked; nothing is concluded"):
        RepairDesk(fleet).mend(finding)
    assert (read_hosts(fleet), records_of(fleet)) == before


def test_a_host_that_can_not_ask_its_hypervisor_mends_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    corruptions.a_link_of_ours_is_left(healthy(fleet))
    finding, before = found_in(fleet), read_hosts(fleet)

    def silent() -> object:
        raise CannotAsk("libvirtd did not answer")

    monkeypatch.setattr(host(fleet).ports.hypervisor, "list_definitions", silent)
    with pytest.raises(CannotAsk):
        RepairDesk(fleet).mend(finding)
    assert read_hosts(fleet) == before


def test_what_belongs_to_a_record_that_can_not_be_read_is_left_to_it(fleet: Fleet) -> None:
    corruptions.a_name_is_left(healthy(fleet))
    finding = found_in(fleet)
    fleet.client.set(KEYS.instance(GHOST), "{")
    told = RepairDesk(fleet).mend(finding)
    assert not told["mended"]
    assert fleet.client.hget(KEYS.names, "ghost") == GHOST


@pytest.mark.parametrize("corrupt", [corruptions.the_domain_is_removed, corruptions.the_definition_is_edited])
def test_a_guest_that_an_operation_has_taken_up_meanwhile_is_left_to_it(fleet: Fleet, corrupt: Corrupt) -> None:
    corrupt(healthy(fleet))
    finding = found_in(fleet)
    fleet.begin("instance.reboot", "taken-up", instance="web", type="hard")
    before = read_hosts(fleet)
    fleet.post.chains.clear()
    with pytest.raises(Refused, match="operation taken-up holds web: ask again later"):
        RepairDesk(fleet).mend(finding)
    assert read_hosts(fleet) == before


def test_a_guest_whose_step_runs_is_left_to_it(fleet: Fleet) -> None:
    corruptions.the_definition_is_edited(healthy(fleet))
    finding, desk = found_in(fleet), RepairDesk(fleet)
    with desk.host().exclusion.hold(fleet.instance().id) as alone:
        assert alone
        with pytest.raises(TaskvisorError, match="a step of instance"):
            desk.mend(finding)


def test_a_link_that_this_host_remembers_nothing_of_is_left_alone(fleet: Fleet) -> None:
    corruptions.a_link_of_ours_is_left(healthy(fleet))
    finding = found_in(fleet)
    (host(fleet).root / "remembered" / f"{finding.subject}.json").unlink()
    before = read_hosts(fleet)
    with pytest.raises(Refused, match="another installation may have made it"):
        RepairDesk(fleet).mend(finding)
    assert read_hosts(fleet) == before


def test_the_runbook_says_of_every_code_what_fix_does() -> None:
    runbook = (ROOT / "docs" / "verify.md").read_text()
    rows = {code: f"| `{code.value}` | {done} |" for code, done in REPAIRS.items()}
    rows |= {code: f"| `{code.value}` | by hand: {why} |" for code, why in NOT_REPAIRED.items()}
    assert [code for code, row in rows.items() if row not in runbook] == []
