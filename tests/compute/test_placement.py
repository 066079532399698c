"""Choosing a host explains itself: every rule, every host, with numbers, and with what would help."""

from dataclasses import replace

import pytest

from taskvisor.compute.placement import (
    FILTERS,
    OURS,
    Ask,
    Companions,
    Placer,
    Verdict,
    no_capacity,
    placement_for,
)
from taskvisor.compute.placement.choosing import CANDIDATES_LIMIT, SENTENCE_HOSTS_LIMIT, TOLD_BEST, TOLD_HOSTS_LIMIT
from taskvisor.compute.resources.table import resources_for
from taskvisor.model.aggregate import Aggregate
from taskvisor.model.host_mark import HostMark
from taskvisor.model.ids import HostName, NetworkId
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.records import Flavor, Host, Resources
from taskvisor.model.server_group import GroupPolicy
from taskvisor.model.states import VirtType
from tests.support.records import inventory

DEAD = HostMark(reason="no power", by="ann", at=1.0)
ASKED = Resources(vcpus=2, memory_mib=512, disk_gib=10)
ASK = Ask(resources=ASKED)
ON_VLAN = Network(
    id=NetworkId("n1"),
    name="yard",
    kind=NetworkKind.VLAN,
    cidr="10.1.0.0/24",
    gateway="10.1.0.1",
    segment=7,
    physical="physnet1",
)
ON_TUNNELS = replace(ON_VLAN, id=NetworkId("n2"), name="blue", kind=NetworkKind.VXLAN, physical=None)
H1, H2 = HostName("h1"), HostName("h2")
CAGE = Aggregate(name="cage", hosts=(H1,), properties={"availability_zone": "east", "filter_tenant_id": "red, blue"})


def companions(policy: GroupPolicy, *members: tuple[str, int], per_host: int = 1) -> Companions:
    named = tuple((HostName(host), many) for host, many in members)
    return Companions(name="db", policy=policy, servers_per_host=per_host, members=named)


def host(name: str, *, free_mib: int = 4096, **fields: object) -> Host:
    """A host that is up, with room for everything but memory beyond `free_mib`."""
    good = Host(
        name=HostName(name),
        inventory=inventory(vcpus=8, memory_mib=free_mib, disk_gib=100),
        used=Resources(),
        instances=0,
        up=True,
    )
    changed: Host = replace(good, **fields)  # type: ignore[arg-type]
    return changed


def reporting(name: str = "h1", **fields: object) -> Host:
    """A host whose inventory says that."""
    return host(name, inventory=replace(inventory(), **fields))  # type: ignore[arg-type]


def verdicts(ask: Ask, *hosts: Host) -> list[tuple[str, str, str]]:
    return [(said.host, said.rule, said.reason) for said in placement_for(ask, hosts).verdicts]


CASES = [
    (ASK, host("h1", inventory=None), "reported", "it has not reported its resources yet", "wait for its next report"),
    (
        ASK,
        host("h1", used=Resources(vcpus=-1)),
        "sane",
        "it reports nonsense: used.vcpus is -1",
        "look at what h1 reports",
    ),
    (
        ASK,
        host("h1", inventory=replace(inventory(), problems=("it says that it has 0 CPUs",))),
        "sane",
        "it takes nothing: it says that it has 0 CPUs",
        "taskvisor host show h1",
    ),
    (ASK, host("h1", up=False), "up", "its worker has not been heard of lately", "start its worker"),
    (ASK, host("h1", forced_down=DEAD), "forced_down", "it was forced down by ann: no power", "force-down --up h1"),
    (ASK, host("h1", disabled_reason="new disks"), "enabled", "it is disabled: new disks", "taskvisor host enable h1"),
    (replace(ASK, host=H2), host("h1"), "host", "only host h2 was asked for", "ask for no host"),
    (replace(ASK, image_host=H2), host("h1"), "image", "the image lies on host h2 only", "copy its file"),
    (replace(ASK, excluded=(H1,)), host("h1"), "excluded", "it said already that the guest does not fit", "ops show"),
    (
        replace(ASK, zone="west", project="red"),
        host("h1", aggregates=(CAGE,)),
        "zone",
        "it is in zone east, and west was asked for",
        "taskvisor aggregate add-host",
    ),
    (
        replace(ASK, zone="west"),
        host("h1"),
        "zone",
        "it is in no zone, and west was asked for",
        "taskvisor aggregate add-host",
    ),
    (
        replace(ASK, required_labels=("gpu", "disk=ssd"), forbidden_labels=("old",)),
        host("h1", labels={"disk": "hdd", "old": ""}),
        "labels",
        "it lacks label gpu; it lacks label disk=ssd; it bears label old",
        "taskvisor host label h1 gpu disk=ssd old-",
    ),
    (
        replace(ASK, networks=(ON_VLAN, ON_TUNNELS)),
        host("h1"),
        "network",
        "it has no interface on physical network physnet1, which network yard is on;"
        " it has no tunnel address, which network blue needs",
        "set physnet1=INTERFACE in its TASKVISOR_PHYSICAL_NETWORKS, its TASKVISOR_TUNNEL_ADDRESS",
    ),
    (
        replace(ASK, arch="aarch64"),
        host("h1"),
        "architecture",
        "it is x86_64, and the image is for aarch64",
        "an image for x86_64",
    ),
    (
        replace(ASK, virt_type=VirtType.KVM),
        host("h1"),
        "virt_type",
        "it runs guests by qemu, and the image needs kvm",
        "TASKVISOR_VIRT_TYPE",
    ),
    (
        replace(ASK, required_traits=("HW_CPU_X86_AVX2",), forbidden_traits=("CUSTOM_SLOW",)),
        reporting(traits=("CUSTOM_SLOW",)),
        "traits",
        "it lacks trait HW_CPU_X86_AVX2; it has trait CUSTOM_SLOW",
        "leave trait:HW_CPU_X86_AVX2=required, trait:CUSTOM_SLOW=forbidden out of flavor and image",
    ),
    (
        replace(ASK, capabilities=(("cpu_info:model", "s== Skylake"), ("vcpus", ">= 64"))),
        reporting(cpu_model="Haswell"),
        "capabilities",
        "its cpu_info:model is Haswell, and 's== Skylake' is asked",
        "leave capabilities:cpu_info:model out of the flavor",
    ),
    (
        replace(ASK, project="green"),
        host("h1", aggregates=(CAGE,)),
        "project",
        "it is kept for projects blue, red, and the guest is project green's",
        "add green to filter_tenant_id",
    ),
    (
        replace(ASK, project="red", aggregate_specs=(("ssd", "true"),)),
        host("h1", aggregates=(CAGE,)),
        "aggregate_properties",
        "no aggregate of it has ssd as 'true'",
        "taskvisor aggregate add-host",
    ),
    (
        replace(ASK, companions=companions(GroupPolicy.AFFINITY, ("h2", 1))),
        host("h1"),
        "server_group",
        "the guests of server group db are on h2, and belong on one host",
        "make room on h2",
    ),
    (
        replace(ASK, companions=companions(GroupPolicy.ANTI_AFFINITY, ("h1", 2), per_host=2)),
        host("h1"),
        "server_group",
        "it has 2 of server group db, and may have 2",
        "add a host",
    ),
    (
        ASK,
        host("h1", free_mib=511),
        "capacity",
        "memory_mib 512 asked, 511 of 511 free",
        "memory_mib: ask for at most 511; more does not go on this host even when it is empty",
    ),
    (
        ASK,
        host("h1", used=Resources(vcpus=7, memory_mib=4096, disk_gib=91)),
        "capacity",
        "vcpus 2 asked, 1 of 8 free; memory_mib 512 asked, 0 of 4096 free; disk_gib 10 asked, 9 of 100 free",
        "vcpus: free 1 more here, or ask for at most 1; memory_mib: free 512 more here, or ask for none;"
        " disk_gib: free 1 more here, or ask for at most 9",
    ),
    (
        replace(ASK, resources=replace(ASKED, others={"pages_2048": 5})),
        host("h1"),
        "capacity",
        "pages_2048 5 asked, 0 of 0 free",
        "pages_2048: ask for at most 0",
    ),
]


@pytest.mark.parametrize(("ask", "candidate", "rule", "reason", "remedy"), CASES)
def test_each_rule_says_why_not_and_what_would_help(
    ask: Ask, candidate: Host, rule: str, reason: str, remedy: str
) -> None:
    (said,) = placement_for(ask, [candidate]).verdicts

    assert (said.host, said.rule, said.reason) == ("h1", rule, reason)
    assert remedy in said.remedy
    assert placement_for(ask, [candidate]).candidates == ()


def test_every_rule_has_a_case_above() -> None:
    assert {name for name, _ in OURS.filters} == {rule for _, _, rule, _, _ in CASES}
    assert list(FILTERS) == [name for name, _ in OURS.filters if name not in ("reported", "sane")]


@pytest.mark.parametrize(
    ("ask", "candidate"),
    [
        (replace(ASK, host=H1, image_host=H1, excluded=(H2,)), host("h1")),
        (replace(ASK, zone="east", project="blue"), host("h1", aggregates=(CAGE,))),
        (
            replace(ASK, required_labels=("gpu", "disk=ssd"), forbidden_labels=("old=yes",)),
            host("h1", labels={"gpu": "a", "disk": "ssd", "old": "no"}),
        ),
        (
            replace(ASK, networks=(ON_VLAN, ON_TUNNELS, replace(ON_VLAN, kind=NetworkKind.NAT, physical=None))),
            reporting(physical_networks=("physnet0", "physnet1"), tunnel_address="192.0.2.1"),
        ),
        (replace(ASK, arch="x86_64", virt_type=VirtType.QEMU), host("h1")),
        (replace(ASK, required_traits=("A",), forbidden_traits=("B",)), reporting(traits=("A", "C"))),
        (
            replace(ASK, capabilities=(("vcpus", ">= 64"), ("num_instances", "<or> 3 <or> 4"))),
            reporting(stats={"num_instances": 4}),
        ),
        (
            replace(ASK, aggregate_specs=(("ssd", "true"),)),
            host("h1", aggregates=(replace(CAGE, properties={"ssd": "false,true"}),)),
        ),
        (replace(ASK, companions=companions(GroupPolicy.AFFINITY, ("h1", 3))), host("h1")),
        (replace(ASK, companions=companions(GroupPolicy.ANTI_AFFINITY, ("h1", 1), ("h2", 9), per_host=2)), host("h1")),
        (replace(ASK, companions=companions(GroupPolicy.SOFT_ANTI_AFFINITY, ("h1", 9))), host("h1")),
        (
            replace(ASK, resources=replace(ASKED, others={"pages_2048": 5})),
            reporting(limits=replace(ASKED, others={"pages_2048": 5})),
        ),
        (ASK, host("h1", free_mib=512, used=Resources(vcpus=6, disk_gib=90))),
    ],
)
def test_a_host_that_is_as_asked_has_no_verdict(ask: Ask, candidate: Host) -> None:
    found = placement_for(ask, [candidate])

    assert (found.verdicts, found.candidates) == ((), (candidate,))


@pytest.mark.parametrize(
    ("reported", "what"),
    [
        ({"limits": Resources(vcpus=-1, memory_mib=4096, disk_gib=100)}, "limits.vcpus is -1"),
        ({"limits": Resources(vcpus=1, memory_mib=1 << 41, disk_gib=100)}, "limits.memory_mib is 2199023255552"),
        ({"total": Resources(vcpus=1, others={"pages": -3})}, "total.pages is -3"),
    ],
)
def test_a_host_that_reports_nonsense_is_marked_and_left_out(reported: dict[str, Resources], what: str) -> None:
    odd = host("h1", inventory=replace(inventory(), **reported))  # type: ignore[arg-type]  # amounts only

    assert ("h1", "sane", f"it reports nonsense: {what}") in verdicts(ASK, odd)
    assert placement_for(ASK, [odd, host("h2")]).candidates == (host("h2"),)


def test_a_host_is_told_all_that_speaks_against_it() -> None:
    bad = host("h1", up=False, disabled_reason="broken", free_mib=0)

    assert [rule for _, rule, _ in verdicts(ASK, bad)] == ["up", "enabled", "capacity"]


def test_guests_spread_over_the_hosts_with_most_free_memory() -> None:
    hosts = [
        host("a", free_mib=4096, instances=3),
        host("b", free_mib=4096, instances=3),
        host("c", free_mib=4096, instances=1),
        host("full", free_mib=8192, used=Resources(memory_mib=7000)),
        host("large", free_mib=8192),
    ]

    assert [one.name for one in placement_for(ASK, hosts).candidates] == ["large", "c", "a", "b", "full"]


def test_what_was_asked_is_what_is_claimed() -> None:
    assert resources_for(Flavor(name="x", vcpus=2, memory_mib=512, disk_gib=10)) == ASKED


def test_a_guest_claims_the_disk_of_its_swap_and_ephemeral_disks_too() -> None:
    flavor = Flavor(name="x", vcpus=2, memory_mib=512, disk_gib=6, swap_mib=1025, ephemeral_gib=2)
    assert resources_for(flavor) == ASKED


def test_when_nothing_fits_every_host_and_every_reason_is_named() -> None:
    found = placement_for(ASK, [host("h1", up=False, free_mib=1), host("h2", free_mib=100)])

    assert str(no_capacity(ASK, found)) == (
        "no host fits (vcpus 2, memory_mib 512, disk_gib 10):"
        " h1: its worker has not been heard of lately, memory_mib 512 asked, 1 of 1 free;"
        " h2: memory_mib 512 asked, 100 of 100 free"
    )


def test_a_fleet_without_hosts_says_how_to_get_one() -> None:
    assert str(no_capacity(ASK, placement_for(ASK, ()))) == (
        "no host has ever reported; start one with `taskvisor worker` (asked: vcpus 2, memory_mib 512, disk_gib 10)"
    )


def test_a_host_promised_too_much_is_full_and_no_more() -> None:
    over = host("h1", free_mib=1000, used=Resources(memory_mib=1500))

    assert verdicts(ASK, over) == [("h1", "capacity", "memory_mib 512 asked, -500 of 1000 free")]


def test_of_thousands_of_hosts_the_nearest_misses_are_told_and_the_others_counted() -> None:
    fleet = [host(f"h{number:04}", free_mib=number % 500, up=number % 2 == 0) for number in range(3000)]

    found = placement_for(ASK, fleet)
    why = found.explained(None)

    assert (found.hosts, found.fitting, dict(found.refused)) == (3000, 0, {"up": 1500, "capacity": 3000})
    assert len({row["host"] for row in why.rows}) == TOLD_HOSTS_LIMIT
    assert {row["reason"] for row in why.rows[:6]} == {"memory_mib 512 asked, 498 of 498 free"}
    assert why.choice.left_out == 3000 - TOLD_HOSTS_LIMIT
    sentence = str(no_capacity(ASK, found))
    assert sentence.count("asked,") == SENTENCE_HOSTS_LIMIT
    assert sentence.endswith("; and 2990 more hosts (hosts refused by rule: capacity 3000, up 1500)")


def test_the_best_of_thousands_are_the_same_whether_they_differ_or_not() -> None:
    alike = [host(f"h{number:04}", instances=(number * 7) % 11) for number in range(2000)]
    mixed = [replace(one, used=Resources(memory_mib=number % 97)) for number, one in enumerate(alike)]

    for fleet in (alike, mixed):
        best = sorted(fleet, key=lambda one: (one.used.memory_mib, one.instances, one.name))
        assert placement_for(ASK, fleet).candidates == tuple(best[:CANDIDATES_LIMIT])


def test_the_chosen_and_the_runners_up_are_told_with_what_they_weigh() -> None:
    fleet = [host(f"h{number}", free_mib=1000 + 100 * number) for number in range(9)]

    why = placement_for(ASK, fleet).explained(
        HostName("h7"), [Verdict(host=HostName("h8"), rule="claim", reason="lost")]
    )

    assert [one.host for one in why.choice.best] == ["h7", "h6", "h5", "h4", "h3"]
    assert len(why.choice.best) == TOLD_BEST
    memory = why.choice.best[0].parts["memory"]
    assert (memory.number, memory.share, memory.weight) == (1700, 0.875, 1.0)
    assert (why.choice.fitting, dict(why.choice.refused)) == (9, {"claim": 1})


def test_a_placer_that_remembers_says_what_one_says_that_does_not() -> None:
    placer, fleet = Placer(), [host(f"h{number}", free_mib=600 + number) for number in range(20)]
    for turn in range(30):
        number = turn % 20
        fleet[number] = replace(fleet[number], used=Resources(memory_mib=40 * turn), up=turn % 3 != 0)
        for ask in (ASK, replace(ASK, host=H1), replace(ASK, resources=Resources(memory_mib=600 + turn))):
            assert placer.placement_for(ask, fleet) == placement_for(ask, fleet)


def test_a_host_that_has_gone_is_no_candidate_any_more() -> None:
    placer = Placer()
    placer.placement_for(ASK, [host("h1"), host("h2")])

    assert [one.name for one in placer.placement_for(ASK, [host("h2")]).candidates] == ["h2"]
