"""Names, owners and refusals: pure."""

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.plan import (
    Owner,
    bridge_mac_for,
    bridge_name_for,
    bridge_plan_for,
    network_owner_for,
    owner_for,
    parse_owner,
    tap_name_for,
    vif_plan_for,
)
from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId, NetworkId, PortId, SecurityGroupId
from taskvisor.model.network import NetworkKind
from taskvisor.model.plan import VifPlan
from tests.net.plans import network, port

ids = st.uuids().map(str)
IFNAMSIZ = 16
IFALIASZ = 256


def test_a_plan_says_all_that_the_fabric_needs() -> None:
    on = replace(network(9), id=NetworkId("0f4c9e1a-77aa-4b6e-8f0e-111111111111"), dns=("192.0.2.53",))
    nic = replace(
        port(0, on),
        id=PortId("16cd9b2c-ad31-4c43-9f3b-222222222222"),
        instance_id=InstanceId("9b0f30b6-33e1-4f4c-8f13-333333333333"),
        mac="52:54:00:12:34:56",
    )
    assert vif_plan_for(nic, on, hostname="web-0") == VifPlan(
        port_id=nic.id,
        instance_id=nic.instance_id,
        network_id=on.id,
        tap="tap16cd9b2c-ad",
        bridge="brq0f4c9e1a-77",
        mac="52:54:00:12:34:56",
        address="10.9.0.10",
        prefix_length=24,
        gateway="10.9.0.1",
        mtu=1450,
        owner="taskvisor:9b0f30b6-33e1-4f4c-8f13-333333333333:16cd9b2c-ad31-4c43-9f3b-222222222222",
        cidr="10.9.0.0/24",
        nat=True,
        dhcp=True,
        dns=("192.0.2.53",),
        hostname="web-0",
    )


def test_a_nat_bridge_holds_the_gateway() -> None:
    plan = bridge_plan_for(vif_plan_for(port(0, network()), network(), hostname="web-0"))
    assert plan.gateway == IPv4Interface("10.9.0.1/24")
    assert plan.owner == network_owner_for(network().id)


@given(ids)
def test_names_and_aliases_fit_the_kernels_limits(some_id: str) -> None:
    assert len(tap_name_for(PortId(some_id))) < IFNAMSIZ
    assert len(bridge_name_for(NetworkId(some_id))) < IFNAMSIZ
    assert len(owner_for(InstanceId(some_id), PortId(some_id))) < IFALIASZ


@given(ids, ids)
def test_an_owner_is_read_back_from_its_alias(instance_id: str, port_id: str) -> None:
    owner = Owner(instance_id=InstanceId(instance_id), port_id=PortId(port_id))
    assert parse_owner(owner_for(owner.instance_id, owner.port_id)) == owner


@pytest.mark.parametrize(
    "alias",
    [
        None,
        "",
        "taskvisor",
        "taskvisor:",
        "taskvisor::",
        "taskvisor:a",
        "taskvisor:a:b:c",
        "uplink to rack 7",
        "other:a:b",
    ],
)
def test_other_aliases_are_nobodys(alias: str | None) -> None:
    assert parse_owner(alias) is None


@given(ids)
def test_a_bridges_alias_is_not_a_ports(network_id: str) -> None:
    assert parse_owner(network_owner_for(NetworkId(network_id))) is None


@given(ids)
def test_a_bridges_mac_is_one_hosts_may_give_themselves(network_id: str) -> None:
    first = int(bridge_mac_for(NetworkId(network_id)).split(":")[0], 16)
    assert (first & 1, first & 2) == (0, 2), "unicast, locally administered"
    assert bridge_mac_for(NetworkId(network_id)) == bridge_mac_for(NetworkId(network_id))


@pytest.mark.parametrize(
    "hostname", ["", "-web", "web-", "web_1", "web.example", "web,set:evil", "w" * 64, "wéb", "web\n"]
)
def test_a_hostname_that_is_no_label_is_refused(hostname: str) -> None:
    with pytest.raises(Refused, match="hostname"):
        vif_plan_for(port(0, network()), network(), hostname=hostname)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cidr": "10.9.0.1/24"}, "must read like"),
        ({"cidr": "nonsense"}, "must read like"),
        ({"gateway": "10.8.0.1"}, "the gateway of network net-9"),
        ({"gateway": "first"}, "the gateway of network net-9"),
        ({"cidr": "10.8.0.0/24", "gateway": "10.8.0.1"}, "the address of port"),
    ],
)
def test_an_unusable_network_is_refused_in_words(change: dict[str, str], sentence: str) -> None:
    on = network()
    with pytest.raises(Refused, match=sentence):
        vif_plan_for(port(0, on), replace(on, **change), hostname="web-0")  # type: ignore[arg-type]


def test_a_port_of_another_network_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="is on network"):
        vif_plan_for(port(0, network(8)), network(9), hostname="web-0")


@pytest.mark.parametrize("kind", [NetworkKind.OVS, NetworkKind.MACVTAP])
def test_a_port_in_a_group_is_refused_where_no_filter_sees_its_frames(kind: NetworkKind) -> None:
    unfiltered = replace(network(), kind=kind, bridge="br-int", physical="lan")
    grouped = replace(port(0, unfiltered), security_groups=(SecurityGroupId("web"),))
    with pytest.raises(Refused, match=f"is of kind {kind}, whose frames no filter of this host sees"):
        vif_plan_for(grouped, unfiltered, hostname="web-0")
    for open_port in (replace(grouped, security_groups=()), replace(grouped, anti_spoofing=False)):
        assert vif_plan_for(open_port, unfiltered, hostname="web-0").kind is kind
