"""What a host reports of itself: all of it in one look, written when it has changed, and marked where it can't be."""

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.observed import HypervisorFacts
from taskvisor.model.records import Inventory, Resources
from tests.support.fleet import KEYS, Fleet
from virt.simulated import SimulatedHypervisor

H1 = HostName("h1")
STRAY = InstanceId("00000000-0000-4000-8000-00000000057a")


def inventory_of(fleet: Fleet) -> Inventory:
    """As it is in the store after another look."""
    fleet.clock.sleep(60.0)
    fleet.hosts[H1].report.track()
    (host,) = fleet.store.hosts.list_hosts()
    assert host.inventory is not None
    return host.inventory


def saying(fleet: Fleet, hypervisor: object) -> None:
    """From now on h1 is tracked by what this hypervisor says."""
    report = fleet.hosts[H1].report
    fleet.hosts[H1].report = replace(report, tracker=replace(report.tracker, hypervisor=hypervisor))  # type: ignore[arg-type]


class Saying(SimulatedHypervisor):
    """Says of its host what a test wants."""

    def __init__(self, root: Path, said: HypervisorFacts) -> None:
        super().__init__(root)
        self._said = said

    def read_facts(self) -> HypervisorFacts:
        return self._said


def test_a_host_tells_of_its_guests_its_images_and_what_it_can(fleet: Fleet) -> None:
    assert inventory_of(fleet).stats == {"io_workload": 0, "num_instances": 0}
    fleet.build("web")

    told = inventory_of(fleet)

    assert (told.stats["num_instances"], told.stats["num_vm_active"], told.stats["num_task_None"]) == (1, 1, 1)
    assert told.guests == Resources(vcpus=1, memory_mib=64)
    assert len(told.cached_images) == 1
    assert "COMPUTE_SECURITY_UEFI_SECURE_BOOT" in told.traits
    assert told.disk_available_least_gib == told.disk_free_gib
    assert len(told.cells) == 2
    assert (told.orphans, told.remarks, told.problems) == ((), (), ())


def test_a_host_that_has_what_it_had_only_notes_that_it_looked(fleet: Fleet) -> None:
    before = inventory_of(fleet)
    text = fleet.client.hget(KEYS.host(H1), "inventory")

    with capture_logs() as logs:
        after = inventory_of(fleet)

    (host,) = fleet.store.hosts.list_hosts()
    assert (after, fleet.client.hget(KEYS.host(H1), "inventory")) == (before, text)
    assert host.reported_at == fleet.clock.now() > before.reported_at
    assert logs == []


def test_a_change_of_capacity_is_told(fleet: Fleet) -> None:
    facts = fleet.hosts[H1].ports.hypervisor.read_facts()
    saying(fleet, Saying(fleet.hosts[H1].root, replace(facts, memory_mib=facts.memory_mib // 2)))
    with capture_logs() as logs:
        inventory_of(fleet)
    assert [entry["event"] for entry in logs] == ["host_capacity_changed"]
    assert logs[0]["before"]["memory_mib"] == 2 * logs[0]["now"]["memory_mib"]


def test_domains_of_no_record_are_counted_and_their_memory_is_not_promised(fleet: Fleet) -> None:
    before = inventory_of(fleet)
    fleet.hosts[H1].outsider.ensure_foreign_domain(STRAY, "stray")  # off
    assert inventory_of(fleet).orphans == (STRAY,)
    assert inventory_of(fleet).limits == before.limits

    fleet.build("web")
    lost = fleet.instance().id
    fleet.client.delete(KEYS.instance(lost))
    told = inventory_of(fleet)

    assert told.orphans == tuple(sorted((STRAY, lost)))
    assert told.limits.memory_mib == before.limits.memory_mib - 64


def test_a_guest_of_another_size_than_recorded_is_told_of(fleet: Fleet) -> None:
    fleet.build("web")
    outsider, web = fleet.hosts[H1].outsider, fleet.instance()
    outsider.ensure_running_with(web.id, lambda xml: xml.replace(">65536<", ">131072<"))
    assert inventory_of(fleet).remarks == (f"web ({web.id}) has 128 MiB, its flavor 64",)


def test_a_guest_that_was_recorded_after_the_records_were_read_is_no_orphan(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = fleet.hosts[H1].report.tracker
    list_uses = tracker.hypervisor.list_uses

    class Late:
        def __getattr__(self, name: str) -> object:
            return getattr(tracker.hypervisor, name)

        def list_uses(self) -> object:
            fleet.build("late")
            return list_uses()

    saying(fleet, Late())
    told = inventory_of(fleet)
    assert (told.orphans, told.guests.vcpus) == ((), 1)


@pytest.mark.parametrize(
    ("nonsense", "problem"),
    [
        ({"cpus": 0, "cells": ()}, "it says that it has 0 CPUs"),
        ({"memory_mib": -7}, "it says that it has -7 MiB of memory"),
        ({"cpus": 3}, "it says that its NUMA cells have 64 CPUs, and that it has 3"),
    ],
)
def test_a_host_that_reports_nonsense_is_marked_and_takes_nothing_until_it_makes_sense(
    fleet: Fleet, nonsense: dict[str, object], problem: str
) -> None:
    hypervisor = fleet.hosts[H1].ports.hypervisor
    said: HypervisorFacts = replace(hypervisor.read_facts(), **nonsense)  # type: ignore[arg-type]
    saying(fleet, Saying(fleet.hosts[H1].root, said))
    with capture_logs() as logs:
        assert inventory_of(fleet).problems == (problem,)
    assert "host_takes_nothing" in [entry["event"] for entry in logs]
    with pytest.raises(Exception, match=f"h1: it takes nothing: {problem}"):
        fleet.build("web")

    saying(fleet, hypervisor)
    assert inventory_of(fleet).problems == ()
    fleet.build("web")
    assert fleet.instance().host == H1


def test_a_host_of_which_a_part_cannot_be_asked_writes_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fleet.store.hosts.list_hosts()

    def silent() -> tuple[str, ...]:
        raise CannotAsk("the cache does not answer")

    monkeypatch.setattr(fleet.hosts[H1].report.tracker.images, "list_cached", silent)
    fleet.clock.sleep(60.0)
    with pytest.raises(CannotAsk):
        fleet.hosts[H1].report.track()
    assert fleet.store.hosts.list_hosts() == before
