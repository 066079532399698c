"""One thing is put wrong on a healthy fleet, and that very thing is found; what is under way is never taken for drift."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.build import FetchImage
from tasks.drift import TOLD
from tasks.flows import ALL_FLOWS
from tasks.verify import host_seen
from taskvisor.compute.audit import confirmed, findings_for
from taskvisor.model.drift import Difference, Holds
from taskvisor.model.errors import CannotAsk
from taskvisor.model.finding import ADVICE, Code, Finding
from taskvisor.model.ids import InstanceId
from taskvisor.model.network import NetworkKind
from taskvisor.model.observed import HostSeen
from taskvisor.model.states import Phase
from taskvisor.state.codec import encode
from taskvisor.state.survey import Survey
from tests.compute import corruptions
from tests.compute.corruptions import CORRUPTIONS, GHOST, H1, H2, healthy, host, xml_of_web
from tests.fixtures.machine import ROOT
from tests.support import records
from tests.support.audits import audit
from tests.support.fleet import KEYS, Fleet
from tests.support.harness import Harness, recover
from tests.support.images import ImageDesk
from tests.support.spies import DieAt, Moment
from tests.support.world import read_everything
from tests.tasks.doors import do_during, refuse_once

OF_TWO = {Code.DOMAIN_ELSEWHERE, Code.QUEUE_ORPHANED, Code.THING_NOT_HELD}
"""Codes that take more than one thing on one host; their tests are below, and of guests that are pinned in
tests/tasks/test_placed_guests.py."""


def codes(found: tuple[Finding, ...]) -> list[Code]:
    return [finding.code for finding in found]


@pytest.mark.parametrize(("corrupt", "code"), CORRUPTIONS, ids=[corrupt.__name__ for corrupt, _ in CORRUPTIONS])
def test_one_thing_put_wrong_is_found_and_nothing_else(
    fleet: Fleet, corrupt: Callable[[Fleet], None], code: Code
) -> None:
    healthy(fleet)
    assert audit(fleet) == ()
    corrupt(fleet)
    assert codes(audit(fleet)) == [code]


@pytest.mark.parametrize(("kind", "found"), [(NetworkKind.MACVTAP, []), (NetworkKind.FLAT, [Code.DHCP_MISSING])])
def test_dhcp_is_missed_only_where_a_host_serves_it(fleet: Fleet, kind: NetworkKind, found: list[Code]) -> None:
    (network,) = healthy(fleet).store.networks.read_list().networks
    corruptions.the_dhcp_entry_is_removed(fleet)
    fleet.client.set(KEYS.network(network.id), encode(replace(network, kind=kind)))
    assert codes(audit(fleet)) == found


def test_every_code_is_found_by_some_test() -> None:
    assert {code for _, code in CORRUPTIONS} | OF_TWO == set(Code)


def test_every_code_has_advice_and_is_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "verify.md").read_text()
    assert [code for code in Code if code not in ADVICE or f"| `{code.value}` |" not in runbook] == []


def test_an_image_that_is_just_being_deleted_is_no_finding_with_or_without_its_file(fleet: Fleet) -> None:
    desk = ImageDesk(healthy(fleet))
    desk.delete("gold")
    assert audit(fleet) == ()
    corruptions.the_image_is_removed(fleet)
    assert audit(fleet) == ()


def test_an_image_that_a_silent_host_is_to_remove_is_the_silent_hosts_finding(fleet: Fleet) -> None:
    corruptions.an_image_that_is_to_go_is_forgotten(healthy(fleet))
    corruptions.the_host_falls_silent(fleet)
    assert codes(audit(fleet)) == [Code.HOST_SILENT]


@pytest.mark.parametrize(
    ("corrupt", "flow", "fields"),
    [
        (corruptions.the_domain_is_removed, "instance.reboot", {"instance": "web", "type": "hard"}),
        (corruptions.the_domain_is_removed, "instance.delete", {"instance": "web"}),
        (corruptions.the_domain_of_the_guest_that_is_off_is_removed, "instance.start", {"instance": "off"}),
        (corruptions.the_directory_is_removed, "instance.delete", {"instance": "off"}),
        (corruptions.the_definition_is_edited, "instance.reboot", {"instance": "web", "type": "hard"}),
        (corruptions.the_definition_of_the_guest_that_is_off_is_edited, "instance.start", {"instance": "off"}),
        (corruptions.the_running_guest_is_changed, "instance.reboot", {"instance": "web", "type": "hard"}),
        (corruptions.the_root_disk_is_removed, "instance.delete", {"instance": "web"}),
        (corruptions.the_link_is_removed, "instance.reboot", {"instance": "web", "type": "hard"}),
        (corruptions.the_dhcp_entry_is_removed, "instance.reboot", {"instance": "web", "type": "hard"}),
        (corruptions.the_record_says_that_something_is_being_done, "instance.delete", {"instance": "web"}),
        (corruptions.a_lease_is_held_by_nobody, "instance.delete", {"instance": "web"}),
        (corruptions.a_lease_is_held_by_an_operation_that_has_ended, "instance.delete", {"instance": "web"}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_the_advice_says_mends_it(
    fleet: Fleet, corrupt: Callable[[Fleet], None], flow: str, fields: dict[str, str]
) -> None:
    corrupt(healthy(fleet))
    fleet.ask(flow, "mend", **fields)
    assert audit(fleet) == ()


@pytest.mark.parametrize("corrupt", [one for one, code in CORRUPTIONS if code is Code.MEMBER_DIFFERS])
def test_a_port_that_is_not_indexed_as_recorded_is_so_after_its_hosts_next_look(
    fleet: Fleet, corrupt: Callable[[Fleet], None]
) -> None:
    corrupt(healthy(fleet))
    host(fleet).plugs.check()
    assert audit(fleet) == ()


@pytest.mark.parametrize("corrupt", [one for one, code in CORRUPTIONS if code is Code.MEMBER_WITHOUT_PORT])
def test_what_is_indexed_and_is_nobodys_goes_by_the_two_words_of_its_subject(
    fleet: Fleet, corrupt: Callable[[Fleet], None]
) -> None:
    corrupt(healthy(fleet))
    (found,) = audit(fleet)
    key, port = found.subject.split()
    fleet.client.hdel(KEYS.prefix + key, port)
    assert audit(fleet) == ()


def test_an_index_of_another_type_is_told_and_hinders_no_other_port_from_being_indexed(fleet: Fleet) -> None:
    healthy(fleet)
    web, off = fleet.instance(), fleet.instance("off")
    fleet.client.delete(KEYS.nics(web.id), KEYS.nics(off.id))
    fleet.client.set(KEYS.nics(web.id), "all of them")
    host(fleet).plugs.check()
    assert fleet.client.hlen(KEYS.nics(off.id)) == 1
    assert codes(audit(fleet)) == [Code.RECORD_UNREADABLE]


def test_a_stuck_operation_whose_obstacle_is_removed_goes_on_when_it_is_retried(fleet: Fleet) -> None:
    corruptions.an_operation_is_stuck(healthy(fleet))
    shutil.rmtree(host(fleet).root / "instances" / fleet.read("build-stuck").instance_id)
    fleet.post.launch(fleet.door.retry("build-stuck"))
    fleet.post.deliver_all()
    assert audit(fleet) == ()


def test_an_audit_changes_nothing(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.a_claim_is_left(fleet)
    before = read_everything(fleet.client)
    audit(fleet)
    assert read_everything(fleet.client) == before


def test_an_instance_that_is_on_two_hosts_is_found_on_the_one_where_it_does_not_belong(
    redis_url: str, memory_dir: Path
) -> None:
    fleet = healthy(Fleet(redis_url, memory_dir, hosts=("h1", "h2"), memory_mib={"h1": 4096, "h2": 2048}))
    fleet.hosts[H2].ports.hypervisor.ensure_defined(fleet.instance().id, xml_of_web(fleet))

    (found,) = audit(fleet)

    assert (found.code, found.subject, found.host) == (Code.DOMAIN_ELSEWHERE, fleet.instance().id, H2)
    fleet.close()


def test_of_a_guest_that_has_drifted_each_difference_is_told_and_from_when_it_holds(fleet: Fleet) -> None:
    corruptions.the_definition_is_edited(healthy(fleet))

    (found,) = audit(fleet)

    assert found.subject == fleet.instance().id
    assert found.differences == (
        Difference(code="drift.memory", place="memory", recorded="65536", found="131072", holds=Holds.NEXT_START),
    )
    assert found.message == (
        "web is not as its record makes it: drift.memory (memory): 65536 is recorded, 131072 is there, from its next start"
    )


def test_an_image_below_the_disks_that_is_gone_is_told_of_each_guest_that_stands_on_it(fleet: Fleet) -> None:
    corruptions.the_image_below_the_disks_is_removed(healthy(fleet))
    assert codes(audit(fleet)) == [Code.DISK_DRIFTED, Code.DISK_DRIFTED]


def test_a_guest_that_an_operation_holds_has_not_drifted(fleet: Fleet) -> None:
    corruptions.the_definition_is_edited(healthy(fleet))
    fleet.begin("instance.reboot", "reboot-web", instance="web", type="hard")
    assert audit(fleet) == ()


def test_a_guest_whose_operation_ends_while_it_is_looked_at_has_not_drifted(fleet: Fleet) -> None:
    corruptions.the_definition_is_edited(healthy(fleet))
    fleet.begin("instance.reboot", "reboot-web", instance="web", type="hard")
    assert audit(fleet, afterwards=fleet.post.deliver_all) == ()


def test_a_host_that_can_not_ask_for_definitions_tells_nothing(fleet: Fleet) -> None:
    healthy(fleet)
    there = host(fleet)
    (there.root / "domains").rename(there.root / "away")
    with pytest.raises(CannotAsk):
        host_seen(there.ports, fleet.clock.now(), fleet.store.catalog.list_instances(H1))


def test_of_a_guest_that_differs_in_everything_no_more_is_told_than_is_read(fleet: Fleet) -> None:
    healthy(fleet)
    web = fleet.instance().id
    stripped = f"<domain type='qemu'><name>x</name><uuid>{web}</uuid></domain>"
    host(fleet).outsider.ensure_defined_with(web, lambda _xml: stripped)

    (found,) = audit(fleet)

    assert len(found.differences) == TOLD
    assert re.search(r"; and \d+ more$", found.message)


def test_messages_for_a_silent_host_are_found_and_nothing_is_said_of_its_guests(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.the_domain_is_removed(fleet)
    corruptions.the_host_falls_silent(fleet)
    fleet.client.rpush("host.h1.inflight.h1", "message")
    fleet.client.rpush("compute.inflight.h1", "message")

    found = audit(fleet)

    assert codes(found) == [Code.HOST_SILENT, Code.QUEUE_ORPHANED, Code.QUEUE_ORPHANED]
    assert [finding.subject for finding in found] == ["h1", "compute", "host.h1"]


def test_a_host_that_is_up_and_does_not_answer_is_silent(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.the_domain_is_removed(fleet)
    read = Survey(fleet.client, KEYS).read(fleet.clock.now())

    found = findings_for(read, {H1: None}, read, fleet.clock.now())

    assert [(finding.code, finding.message) for finding in found] == [
        (Code.HOST_SILENT, "it was asked what it has, and did not answer")
    ]


def test_a_host_that_was_not_asked_is_not_judged(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.the_domain_is_removed(fleet)
    read = Survey(fleet.client, KEYS).read(fleet.clock.now())
    assert findings_for(read, {}, read, fleet.clock.now()) == ()


def test_a_host_that_was_retired_may_be_silent(fleet: Fleet) -> None:
    fleet.client.hset(KEYS.host(H1), "disabled", "sold")
    corruptions.the_host_falls_silent(fleet)
    assert audit(fleet) == ()


def test_a_stuck_operation_says_what_it_left_alone_and_why(fleet: Fleet) -> None:
    corruptions.an_operation_is_stuck(fleet)
    (found,) = audit(fleet)
    assert found.message.startswith("instance.build of stuck left alone: prepare_disk; Contradiction at prepare_disk: ")


def test_an_instance_that_is_listed_on_another_host_is_found_on_both(fleet: Fleet) -> None:
    web = healthy(fleet).instance().id
    fleet.client.smove(KEYS.instances_on(H1), KEYS.instances_on(H2), web)
    fleet.store.hosts.write_inventory(H2, records.inventory())
    fleet.note_alive(H2)

    found = [(finding.code, finding.subject, finding.host) for finding in audit(fleet)]

    assert [(code, subject) for code, subject, _ in found] == [
        (Code.INDEX_DIFFERS, f"instances:host:h1 {web}"),
        (Code.INDEX_DIFFERS, f"instances:host:h2 {web}"),
    ]


def test_what_is_not_ours_is_no_finding(fleet: Fleet) -> None:
    healthy(fleet)
    host(fleet).outsider.ensure_foreign_domain(GHOST, "theirs")
    host(fleet).outsider.ensure_foreign_directory(GHOST)
    host(fleet).neighbour.ensure_foreign_link("tap0")
    assert audit(fleet) == ()


def test_a_guest_that_has_just_switched_itself_off_is_left_to_the_next_power_sync(fleet: Fleet) -> None:
    healthy(fleet)
    host(fleet).report.sync_power_states()
    corruptions.the_guest_switches_itself_off(fleet)
    assert audit(fleet) == ()
    fleet.clock.sleep(121)
    assert codes(audit(fleet)) == [Code.POWER_DIFFERS]
    host(fleet).report.sync_power_states()
    assert audit(fleet) == ()


def test_an_operation_that_waits_behind_others_is_not_overdue(fleet: Fleet) -> None:
    corruptions.nobody_carries_an_operation_on(fleet)
    fleet.client.rpush("host.h1", "message")
    assert audit(fleet) == ()


def test_what_appears_and_what_goes_between_the_two_readings_is_not_judged(fleet: Fleet) -> None:
    healthy(fleet)

    def change() -> None:
        fleet.build("new")
        fleet.ask("instance.delete", "delete-web", instance="web")
        fleet.ask("instance.start", "start-off", instance="off")

    assert audit(fleet, meanwhile=change) == ()


def test_what_changes_between_the_look_and_the_second_reading_is_not_judged(fleet: Fleet) -> None:
    healthy(fleet)

    def change() -> None:
        fleet.ask("instance.snapshot", "snap-again", instance="web", image="silver")
        fleet.ask("instance.stop", "stop-web", instance="web", timeout_s=0)
        corruptions.a_name_is_left(fleet)

    assert audit(fleet, afterwards=change) == ()
    assert codes(audit(fleet)) == [Code.NAME_WITHOUT_INSTANCE]


def test_what_a_stuck_operation_left_is_explained_by_it(fleet: Fleet) -> None:
    healthy(fleet)
    sidecar = host(fleet).root / "instances" / fleet.instance().id / "owner.json"
    sidecar.unlink()
    assert fleet.ask("instance.delete", "stuck-delete", instance="web").phase is Phase.STUCK
    assert codes(audit(fleet)) == [Code.OPERATION_STUCK]


def test_what_is_there_of_an_instance_whose_record_is_lost_is_its_operations_finding(fleet: Fleet) -> None:
    corruptions.an_operation_loses_its_instance(healthy(fleet))
    corruptions.a_domain_of_ours_is_defined_by_hand(fleet)
    corruptions.a_directory_of_ours_is_left(fleet)
    assert codes(audit(fleet)) == [Code.OPERATION_WITHOUT_INSTANCE]


def test_a_guest_that_is_off_needs_no_link(fleet: Fleet) -> None:
    healthy(fleet)
    host(fleet).neighbour.ensure_foreign_link_gone(corruptions.tap_of(fleet.instance("off")))
    assert audit(fleet) == ()


def test_two_instances_with_one_address_are_found(fleet: Fleet) -> None:
    healthy(fleet)
    port = replace(fleet.instance().ports[0], address=fleet.instance("off").addresses[0])
    corruptions.rewrite(fleet, ports=(port,))
    assert {Code.ADDRESS_HELD_TWICE, Code.INSTANCE_WITHOUT_PORT} <= set(codes(audit(fleet)))


def test_what_one_of_two_audits_found_is_not_confirmed(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.a_name_is_left(fleet)
    corruptions.the_domain_is_removed(fleet)
    first = audit(fleet)
    fleet.client.hdel(KEYS.names, "ghost")
    assert codes(confirmed(first, audit(fleet))) == [Code.DOMAIN_MISSING]
    assert confirmed((), first) == ()


@pytest.mark.crash
@pytest.mark.parametrize("flow", ALL_FLOWS, ids=[flow.name for flow in ALL_FLOWS])
def test_no_flow_is_taken_for_drift_at_any_moment(flow: Any, redis_url: str, memory_dir: Path) -> None:
    harness = Harness(flow, redis_url, memory_dir)
    fleet = harness.open_fleet()
    found: list[Finding] = []

    def look(name: str, moment: Moment) -> None:
        del name, moment
        found.extend(audit(fleet))

    fleet.post.between = lambda: found.extend(audit(fleet))
    fleet.watch(look)
    harness.begin(fleet)
    fleet.post.deliver_all()
    assert (found, audit(fleet)) == ([], ())
    fleet.close()


@pytest.mark.crash
@pytest.mark.parametrize("flow", ALL_FLOWS, ids=[flow.name for flow in ALL_FLOWS])
def test_what_a_dead_worker_left_is_under_way_until_it_is_carried_on(
    flow: Any, redis_url: str, memory_dir: Path
) -> None:
    def then(fleet: Fleet, death: DieAt) -> None:
        assert audit(fleet) == (), death.died_at
        recover(fleet)
        assert audit(fleet) == (), death.died_at

    assert Harness(flow, redis_url, memory_dir).die_everywhere(then) > 1


def test_a_build_that_is_rolled_back_kept_rescheduled_or_taken_over_is_no_drift(
    redis_url: str, memory_dir: Path
) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"), memory_mib={"h1": 4096, "h2": 2048})
    found: list[Finding] = []
    fleet.post.between = lambda: found.extend(audit(fleet))

    fleet.build("bad", image="/nosuch")
    assert fleet.build("kept", image="/nosuch", on_failure="keep").kept
    fleet.begin_build("doomed")
    fleet.post.deliver(fleet.post.chains[0])
    fleet.ask("instance.delete", "delete-doomed", instance="doomed")

    refuse_once(fleet, "h1")
    assert fleet.build("moved").host == H2

    assert (found, audit(fleet)) == ([], ())
    fleet.close()


def test_a_delete_that_waits_for_a_running_step_is_not_overdue(fleet: Fleet) -> None:
    found: list[Finding] = []

    def delete() -> None:
        assert fleet.begin("instance.delete", "delete-web", instance="web").phase is Phase.WAITING
        fleet.clock.sleep(500)
        found.extend(audit(fleet))

    do_during(fleet, "images.ensure_cached", delete)
    fleet.build()

    assert (found, audit(fleet)) == ([], ())


@pytest.mark.parametrize(("over_s", "expected"), [(59, []), (61, [Code.OPERATION_OVERDUE])])
def test_a_step_is_overdue_when_its_time_is_over_by_four_sweep_periods(
    fleet: Fleet, over_s: int, expected: list[Code]
) -> None:
    found: list[Code] = []

    def hang() -> None:
        fleet.clock.sleep(FetchImage.time_limit_s + over_s)
        found.extend(codes(audit(fleet)))

    do_during(fleet, "images.ensure_cached", hang)
    fleet.build()

    assert found == expected


def test_an_operation_on_a_silent_host_is_not_overdue(fleet: Fleet) -> None:
    corruptions.nobody_carries_an_operation_on(fleet)
    corruptions.the_host_falls_silent(fleet)
    assert codes(audit(fleet)) == [Code.HOST_SILENT]


def test_what_an_unreadable_record_may_stand_for_is_not_called_an_orphan(fleet: Fleet) -> None:
    healthy(fleet)
    corruptions.a_directory_of_ours_is_left(fleet)
    corruptions.a_link_of_ours_is_left(fleet)
    corruptions.a_port_is_left(fleet)
    corruptions.a_domain_of_ours_is_defined_by_hand(fleet)
    fleet.client.set(KEYS.instance(GHOST), "{")
    assert codes(audit(fleet)) == [Code.RECORD_UNREADABLE]


def test_the_look_at_a_host_survives_its_way_through_a_message(fleet: Fleet) -> None:
    healthy(fleet)
    seen = host_seen(host(fleet).ports, fleet.clock.now())
    assert len(seen.domains) == len(seen.directories) == len(seen.links) == len(seen.dhcp) == 2
    assert [file.complete for file in seen.images] == [True]
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(seen))), HostSeen) == seen
    assert {link.instance_id for link in seen.links} == {InstanceId(one) for one in seen.directories}
    assert fleet.instance().ports[0].id in {link.port_id for link in seen.links}
