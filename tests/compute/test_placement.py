"""Choosing a host explains itself: every rule, every host, with numbers."""

from dataclasses import replace

import pytest

from taskvisor.compute.placement import (
    RULES,
    Ask,
    Placement,
    Verdict,
    no_capacity,
    placement_for,
    resources_for,
)
from taskvisor.model.ids import HostName, NetworkId
from taskvisor.model.network import Network, NetworkKind
from taskvisor.model.records import Flavor, Host, Resources
from tests.support.records import inventory

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


def verdicts(ask: Ask, *hosts: Host) -> list[tuple[str, str, str]]:
    return [(said.host, said.rule, said.reason) for said in placement_for(ask, hosts).verdicts]


@pytest.mark.parametrize(
    ("ask", "candidate", "rule", "reason"),
    [
        (ASK, host("h1", up=False), "up", "its worker has not been heard of lately"),
        (ASK, host("h1", disabled_reason="new disks"), "enabled", "it is disabled: new disks"),
        (ASK, host("h1", inventory=None), "reported", "it has not reported its resources yet"),
        (
            ASK,
            host("h1", inventory=replace(inventory(), problems=("it says that it has 0 CPUs",))),
            "sound",
            "it takes nothing: it says that it has 0 CPUs",
        ),
        (
            replace(ASK, resources=replace(ASKED, others={"gpu": 1})),
            host("h1"),
            "capacity",
            "gpu 1 asked, 0 of 0 free",
        ),
        (replace(ASK, host=HostName("h2")), host("h1"), "host", "only host h2 was asked for"),
        (replace(ASK, image_host=HostName("h2")), host("h1"), "image", "the image lies on host h2 only"),
        (
            replace(ASK, networks=(ON_VLAN, ON_TUNNELS)),
            host("h1"),
            "network",
            "it has no interface on physical network physnet1, which network yard is on;"
            " it has no tunnel address, which network blue needs",
        ),
        (
            replace(ASK, excluded=(HostName("h1"),)),
            host("h1"),
            "excluded",
            "it said already that the guest does not fit",
        ),
        (ASK, host("h1", free_mib=511), "capacity", "memory_mib 512 asked, 511 of 511 free"),
        (
            ASK,
            host("h1", used=Resources(vcpus=7, memory_mib=4096, disk_gib=91)),
            "capacity",
            "vcpus 2 asked, 1 of 8 free; memory_mib 512 asked, 0 of 4096 free; disk_gib 10 asked, 9 of 100 free",
        ),
    ],
)
def test_each_rule_says_why_not(ask: Ask, candidate: Host, rule: str, reason: str) -> None:
    assert verdicts(ask, candidate) == [("h1", rule, reason)]
    assert placement_for(ask, [candidate]).candidates == ()


def test_every_rule_has_a_case_above() -> None:
    assert [name for name, _ in RULES] == [
        "up",
        "enabled",
        "reported",
        "sound",
        "host",
        "image",
        "network",
        "excluded",
        "capacity",
    ]


def test_a_host_that_is_connected_to_what_the_networks_need_fits() -> None:
    connected = replace(inventory(), physical_networks=("physnet0", "physnet1"), tunnel_address="192.0.2.1")
    asked = replace(ASK, networks=(ON_VLAN, ON_TUNNELS, replace(ON_VLAN, kind=NetworkKind.NAT, physical=None)))
    assert placement_for(asked, [host("h1", inventory=connected)]).verdicts == ()


def test_a_host_that_passes_all_rules_has_no_verdict() -> None:
    exact = host("h1", free_mib=512, used=Resources(vcpus=6, disk_gib=90))

    assert placement_for(ASK, [exact]) == Placement(candidates=(exact,), verdicts=())


def test_a_host_is_told_all_that_speaks_against_it() -> None:
    bad = host("h1", up=False, disabled_reason="broken", free_mib=0)

    assert [rule for _, rule, _ in verdicts(ASK, bad)] == ["up", "enabled", "capacity"]


def test_guests_spread_over_the_hosts_with_most_free_memory() -> None:
    hosts = [
        host("full", free_mib=8192, used=Resources(memory_mib=7000)),
        host("b", free_mib=4096, instances=3),
        host("a", free_mib=4096, instances=3),
        host("c", free_mib=4096, instances=1),
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

    error = no_capacity(ASK, (*found.verdicts, Verdict(host=HostName("h2"), rule="claim", reason="lost a race")))

    assert str(error) == (
        "no host fits (vcpus 2, memory_mib 512, disk_gib 10):"
        " h1: its worker has not been heard of lately, memory_mib 512 asked, 1 of 1 free;"
        " h2: memory_mib 512 asked, 100 of 100 free, lost a race"
    )


def test_a_fleet_without_hosts_says_how_to_get_one() -> None:
    assert str(no_capacity(ASK, ())) == (
        "no host has ever reported; start one with `taskvisor worker` (asked: vcpus 2, memory_mib 512, disk_gib 10)"
    )


def test_a_host_promised_too_much_is_full_and_no_more() -> None:
    over = host("h1", free_mib=1000, used=Resources(memory_mib=1500))

    assert verdicts(ASK, over) == [("h1", "capacity", "memory_mib 512 asked, -500 of 1000 free")]
