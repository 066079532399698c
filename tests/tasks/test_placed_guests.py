"""Guests that have CPUs, pages or devices of their host for themselves: from the request to the XML, and back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from taskvisor.compute.audit_held import held_findings
from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.model.errors import NoCapacity, Refused, Retryable
from taskvisor.model.finding import Code
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.observed import PciDevice
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase, PowerState
from taskvisor.state.survey import Survey
from tests.support.audits import audit
from tests.support.fleet import IMAGE, KEYS, Fleet
from tests.support.world import read_held
from tests.tasks.doors import refuse_once
from virt.readback import instance_from_xml

H1, H2 = HostName("h1"), HostName("h2")
DEDICATED = frozenset({1, 33, 2, 34})
PINNED = {"vcpus": 2, "memory_mib": 64, "disk_gib": 1, "extra_specs": {"hw:cpu_policy": "dedicated"}}
GPU = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1, "extra_specs": {"pci_passthrough:alias": "gpu:1"}}
CHOICES = ResourceChoices(dedicated_cpus=DEDICATED, pci_devices=("10de:1db4",), pci_aliases={"gpu": "10de:1db4"})
GPUS = (PciDevice(address="0000:3b:00.0", vendor_id="10de", product_id="1db4"),)


@pytest.fixture
def two_hosts(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """Each has two cores of two threads for pinned guests, and h1 a device to give away. h1 has 1024 MiB of large pages a cell,
    h2 half of that.
    """
    fleet = Fleet(
        redis_url,
        memory_dir,
        hosts=("h1", "h2"),
        memory_mib={"h1": 8192, "h2": 4096},
        choices=OperatorChoices(dedicated_cpus=DEDICATED),
        resources=open_table((), CHOICES),
    )
    h1 = fleet.hosts[H1].report.tracker
    has = h1.hypervisor.read_facts()
    with_gpu = type("WithGpu", (), {"read_facts": lambda _: replace(has, pci_devices=GPUS)})
    with_gpu.list_uses = lambda _: h1.hypervisor.list_uses()  # type: ignore[attr-defined]
    replace(h1, hypervisor=with_gpu()).track()
    yield fleet
    fleet.close()


def xml_of(fleet: Fleet, name: str) -> Any:
    return etree.fromstring(str(fleet.read(f"build-{name}").facts["render_xml"]["xml"]))


def held_on(fleet: Fleet, host: HostName = H1) -> dict[str, str]:
    return {str(thing): str(owner) for thing, owner in fleet.store.hosts.list_held([host])[0].items()}


def codes(fleet: Fleet) -> list[Code]:
    records = Survey(fleet.client, KEYS).read(fleet.clock.now())
    return [finding.code for host in records.hosts for finding in held_findings(host, records)]


def test_a_pinned_guest_runs_on_cpus_that_are_its_alone(two_hosts: Fleet) -> None:
    two_hosts.build("web", flavor=PINNED)

    web: Instance = two_hosts.instance("web")
    made = xml_of(two_hosts, "web")
    assert made.xpath("cputune/vcpupin/@cpuset") == ["1", "33"]
    assert made.xpath("numatune/memory/@nodeset") == ["0"]
    assert held_on(two_hosts) == {"cpu:1": web.id, "cpu:33": web.id}
    assert instance_from_xml(etree.tostring(made, encoding="unicode"), PowerState.RUNNING).place == web.place
    host = two_hosts.store.hosts.list_hosts()[0]
    assert (host.used.vcpus, host.used.others["pcpus"], host.used.others["memory_mib@0"]) == (0, 2, 64)
    assert audit(two_hosts) == ()


def test_what_is_not_pinned_stays_off_the_cpus_of_those_who_are(two_hosts: Fleet) -> None:
    two_hosts.build("plain")
    assert xml_of(two_hosts, "plain").xpath("vcpu/@cpuset") == ["0,3-32,35-63"]


def test_the_next_pinned_guest_has_others_then_another_host_and_then_none(two_hosts: Fleet) -> None:
    for name in ("a", "b", "c", "d"):
        two_hosts.build(name, flavor=PINNED)
    assert [two_hosts.instance(name).host for name in ("a", "b", "c", "d")] == [H1, H1, H2, H2]
    assert xml_of(two_hosts, "b").xpath("cputune/vcpupin/@cpuset") == ["2", "34"]

    with pytest.raises(NoCapacity, match=r"h1: pcpus 2 asked, 0 of 4 free; h2: pcpus 2 asked, 0 of 4 free"):
        two_hosts.begin_build("e", flavor=PINNED)


def test_of_many_pinned_guests_at_once_each_has_cpus_of_its_own(two_hosts: Fleet) -> None:
    def ask(number: int) -> str | None:
        try:
            return two_hosts.door.build(
                OperationId(f"build-{number}"), {"name": f"g{number}", "image": IMAGE, "flavor": PINNED}
            ).operation.host  # type: ignore[union-attr]  # a build is always let in anew
        except (NoCapacity, Retryable):
            return None

    with ThreadPoolExecutor(8) as threads:
        hosts = list(threads.map(ask, range(8)))

    assert sorted(filter(None, hosts)) == [H1, H1, H2, H2]
    for host in (H1, H2):
        held = held_on(two_hosts, host)
        assert sorted(held) == ["cpu:1", "cpu:2", "cpu:33", "cpu:34"]
        assert len(set(held.values())) == 2


def test_a_place_that_no_host_has_is_no_capacity_with_every_hosts_reason(two_hosts: Fleet) -> None:
    alone = {**PINNED, "vcpus": 3, "extra_specs": {**PINNED["extra_specs"], "hw:cpu_thread_policy": "isolate"}}  # type: ignore[dict-item]
    with pytest.raises(NoCapacity, match=r"h1: no 1 NUMA cells .*; h2: no 1 NUMA cells"):
        two_hosts.begin_build("web", flavor=alone)
    assert read_held(two_hosts) == {}


def test_what_a_guest_had_is_free_when_it_is_deleted(two_hosts: Fleet) -> None:
    before = read_held(two_hosts)
    two_hosts.build("web", flavor=PINNED)
    two_hosts.ask("instance.delete", "delete-web", instance="web")
    assert (held_on(two_hosts), read_held(two_hosts)) == ({}, before)


def test_a_guest_keeps_its_place_over_a_hard_reboot(two_hosts: Fleet) -> None:
    two_hosts.build("first", flavor=PINNED)
    two_hosts.build("web", flavor=PINNED)
    two_hosts.ask("instance.delete", "delete-first", instance="first")

    two_hosts.ask("instance.reboot", "hard", instance="web", type="hard")

    made = etree.fromstring(str(two_hosts.read("hard").facts["render_xml"]["xml"]))
    assert made.xpath("cputune/vcpupin/@cpuset") == ["2", "34"]


def test_a_guest_that_moves_to_the_next_host_has_its_place_there(two_hosts: Fleet) -> None:
    refuse_once(two_hosts, "h1")
    two_hosts.build("web", flavor=PINNED)

    web = two_hosts.instance("web")
    assert web.host == H2
    assert (held_on(two_hosts), held_on(two_hosts, H2)) == ({}, {"cpu:1": web.id, "cpu:33": web.id})
    assert web.place is not None


def test_a_build_that_fails_for_good_leaves_nothing_held(two_hosts: Fleet) -> None:
    two_hosts.begin_build("web", flavor=PINNED)
    two_hosts.door.cancel("build-web")
    two_hosts.post.deliver_all()
    assert two_hosts.read("build-web").phase is Phase.CANCELLED
    assert (held_on(two_hosts), read_held(two_hosts)) == ({}, {})


def test_a_device_is_given_to_the_guest_that_holds_it_and_to_no_other(two_hosts: Fleet) -> None:
    two_hosts.build("web", flavor=GPU)
    assert two_hosts.instance("web").host == H1
    assert xml_of(two_hosts, "web").xpath("devices/hostdev/source/address/@bus") == ["0x3b"]
    with pytest.raises(NoCapacity, match=r"pci:10de:1db4 1 asked, 0 of 1 free.*pci:10de:1db4 1 asked, 0 of 0 free"):
        two_hosts.begin_build("db", flavor=GPU)

    two_hosts.ask("instance.delete", "delete-web", instance="web")
    two_hosts.build("db", flavor=GPU)
    assert held_on(two_hosts) == {"pci:0000:3b:00.0": two_hosts.instance("db").id}


def test_an_alias_that_nobody_knows_is_refused_at_the_door(two_hosts: Fleet) -> None:
    with pytest.raises(Refused, match="alias=fpga: no such alias; known are: gpu"):
        two_hosts.begin_build("web", flavor={**GPU, "extra_specs": {"pci_passthrough:alias": "fpga:1"}})


def test_large_pages_are_claimed_of_their_cell_until_none_are_left(two_hosts: Fleet) -> None:
    flavor = {"vcpus": 1, "memory_mib": 600, "disk_gib": 1, "extra_specs": {"hw:mem_page_size": "2MB"}}
    for name in ("a", "b"):
        two_hosts.build(name, flavor=flavor)
    cells = [
        (web.host, web.place.numa.cells[0].host_cell)
        for web in (two_hosts.instance(name) for name in ("a", "b"))
        if web.place is not None and web.place.numa is not None
    ]
    assert cells == [(H1, 0), (H1, 1)]
    assert audit(two_hosts) == ()
    with pytest.raises(NoCapacity, match="room for 0 CPUs of their own and 600 MiB in pages of 2048 KiB"):
        two_hosts.begin_build("c", flavor=flavor)


def test_things_of_nobody_and_things_that_are_anothers_are_found(two_hosts: Fleet) -> None:
    two_hosts.build("web", flavor=PINNED)
    assert codes(two_hosts) == []
    two_hosts.client.hset(KEYS.held(H1), "cpu:2", "nobody")
    assert codes(two_hosts) == [Code.CLAIM_WITHOUT_INSTANCE]
    two_hosts.client.hset(KEYS.held(H1), "cpu:1", "nobody")
    assert codes(two_hosts) == [Code.CLAIM_WITHOUT_INSTANCE, Code.THING_NOT_HELD]
