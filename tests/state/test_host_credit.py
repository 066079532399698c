"""Hosts are blamed for builds that fail by their fault, and disabled when too many do one after the other."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.blame import STEPS_OF_WHAT_WAS_ASKED, Credit, credit_for
from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Failure, Operation
from taskvisor.model.states import Phase
from taskvisor.state.admission import Admission
from taskvisor.state.host_changes import HostChanges
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.writing import Outcome, Writer
from tests.support.records import claim, instance, inventory, operation

HOST = HostName("h1")
ANSWER = Outcome(key="answer", payload="{}", keep_s=60)
BROKEN = Failure(code="OutOfTries", message="no", step="plug_vif")


@pytest.fixture
def changes(client: redis.Redis, writer: Writer) -> HostChanges:
    return HostChanges(client, writer)


@pytest.fixture
def journal(client: redis.Redis, writer: Writer) -> RedisJournal:
    return RedisJournal(client, replace(writer, build_failures_limit=3))


@pytest.fixture
def known(hosts: Hosts) -> Hosts:
    hosts.write_inventory(HOST, inventory())
    return hosts


def begun(admission: Admission, number: int) -> Operation:
    """A build that was let in."""
    guest = instance(f"web{number}", f"build{number}", ports=())
    build = operation(f"build{number}", guest, flow="instance.build")
    admission.admit_build(build, guest, claim(guest))
    return build


def end(admission: Admission, journal: RedisJournal, number: int, phase: Phase, failure: Failure | None = None) -> None:
    """A build was let in, and came to that end."""
    end_of(begun(admission, number), journal, number, phase, failure)


def end_of(before: Operation, journal: RedisJournal, number: int, phase: Phase, failure: Failure | None = None) -> None:
    guest = instance(f"web{number}", f"build{number}", ports=())
    after = replace(before, phase=phase, failure=failure, revision=1, settled_at=2.0)
    journal.commit(Change(before=before, after=after, lease=LeaseMove.RELEASE, instance=guest, forget_instance=True))


def test_builds_that_fail_one_after_the_other_are_counted_and_one_that_succeeds_forgives(
    known: Hosts, admission: Admission, journal: RedisJournal
) -> None:
    end(admission, journal, 1, Phase.FAILED, BROKEN)
    end(admission, journal, 2, Phase.STUCK, BROKEN)
    assert [host.failed_builds for host in known.list_hosts()] == [2]

    end(admission, journal, 3, Phase.SUCCEEDED)

    assert [(host.failed_builds, host.disabled_reason) for host in known.list_hosts()] == [(0, None)]


def test_a_host_on_which_too_many_fail_is_disabled_and_starts_anew_when_it_is_enabled(
    known: Hosts, admission: Admission, journal: RedisJournal, changes: HostChanges
) -> None:
    for number, build in enumerate([begun(admission, number) for number in range(4)]):
        end_of(build, journal, number, Phase.FAILED, BROKEN)
    reason = "3 builds failed here one after the other, the last at plug_vif (OutOfTries)"
    assert [(host.failed_builds, host.disabled_reason) for host in known.list_hosts()] == [(4, reason)]

    changes.enable(HOST, ANSWER)

    assert [(host.failed_builds, host.disabled_reason) for host in known.list_hosts()] == [(0, None)]


def test_a_host_that_was_disabled_by_a_person_keeps_that_reason(
    known: Hosts, admission: Admission, journal: RedisJournal, changes: HostChanges
) -> None:
    builds = [begun(admission, number) for number in range(4)]
    changes.disable(HOST, "new disks", ANSWER)
    for number, build in enumerate(builds):
        end_of(build, journal, number, Phase.FAILED, BROKEN)

    assert [host.disabled_reason for host in known.list_hosts()] == ["new disks"]


def test_a_limit_of_nothing_disables_nobody(
    known: Hosts, admission: Admission, client: redis.Redis, writer: Writer
) -> None:
    journal = RedisJournal(client, replace(writer, build_failures_limit=0))
    for number in range(12):
        end(admission, journal, number, Phase.FAILED, BROKEN)

    assert [(host.failed_builds, host.disabled_reason) for host in known.list_hosts()] == [(12, None)]


def of(**fields: object) -> Operation:
    made = replace(operation("op", instance()), flow="instance.build", phase=Phase.ROLLING_BACK, failure=BROKEN)
    changed: Operation = replace(made, **fields)  # type: ignore[arg-type]
    return changed


@pytest.mark.parametrize(
    ("after", "credit"),
    [
        (of(phase=Phase.FAILED), Credit.BLAME),
        (of(phase=Phase.STUCK), Credit.BLAME),
        (of(phase=Phase.FAILED, failure=replace(BROKEN, code="KeyError")), Credit.BLAME),
        (of(phase=Phase.SUCCEEDED, failure=None), Credit.PRAISE),
        (of(), None),  # it has not ended
        (of(phase=Phase.RUNNING, host=HostName("h2")), None),  # it is tried elsewhere
        (of(phase=Phase.FAILED, failure=replace(BROKEN, code="DoesNotFit")), None),
        (of(phase=Phase.FAILED, failure=replace(BROKEN, code="Refused")), None),
        (of(phase=Phase.CANCELLED, failure=replace(BROKEN, code="Cancelled")), None),
        (of(phase=Phase.FAILED, cancel_requested=True), None),
        (of(phase=Phase.FAILED, failure=replace(BROKEN, step="fetch_image")), None),
        (of(phase=Phase.FAILED, flow="instance.start"), None),
    ],
)
def test_a_host_is_blamed_for_its_own_faults_only(after: Operation, credit: Credit | None) -> None:
    assert credit_for(of(), after) is credit


def test_what_has_ended_once_is_not_counted_again() -> None:
    assert credit_for(of(phase=Phase.FAILED), of(phase=Phase.FAILED)) is None


def test_the_steps_that_blame_nobody_are_a_builds() -> None:
    from tasks.build import BuildFlow

    assert {step.name for step in BuildFlow.steps} >= STEPS_OF_WHAT_WAS_ASKED


def test_nothing_is_said_of_a_host_that_never_reported(changes: HostChanges) -> None:
    with pytest.raises(Refused, match="host: 'h9': no host of that name ever reported"):
        changes.disable(HostName("h9"), "new disks", ANSWER)
