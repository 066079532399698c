"""Networks, security groups and floating addresses, from the request to the records, and to those whom it concerns."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from tasks.network_requests import NetworkDoor
from taskvisor.model.errors import Conflicting, Refused
from taskvisor.model.ids import (
    HostName,
    NetworkId,
    OperationId,
    SecurityGroupId,
    created_network_id_for,
    floating_id_for,
    security_group_id_for,
)
from taskvisor.model.network import FloatingAddress, Member, SecurityGroup, Surroundings
from taskvisor.model.network_view import group_view, network_view
from taskvisor.state.surroundings import SurroundingsReader
from tests.support.fleet import KEYS, Fleet
from tests.support.images import PlainAnswers
from tests.support.network_desk import NetworkDesk, open_network_desk
from tests.support.records import inventory

LAB: dict[str, Any] = {"name": "lab", "cidr": "10.5.0.0/24", "cidr6": "fd00:5::/64"}
COPY: tuple[str, dict[str, str]] = ("host.copy_records", {})
WEB_RULE = {"direction": "ingress", "protocol": "tcp", "first_port": 80, "remote_group": "clients"}
WEB, CLIENTS, DEFAULT = (security_group_id_for(name) for name in ("web", "clients", "default"))


@pytest.fixture
def desk(redis_url: str, fleet: Fleet) -> Iterator[NetworkDesk]:
    with open_network_desk(redis_url, fleet) as opened:
        yield opened
    gc.collect()  # results that Celery made say good-bye to Redis when they go


@pytest.fixture
def wide(redis_url: str, three_hosts: Fleet) -> Iterator[NetworkDesk]:
    """Over three hosts, each with one guest of its own name on a tunnelled network, and groups that name each other."""
    with open_network_desk(redis_url, three_hosts) as opened:
        opened.ask("network.create", name="blue", kind="vxlan", segment=7, cidr="10.7.0.0/24")
        for group, rules in (("clients", []), ("web", [WEB_RULE])):
            opened.ask("security_group.create", name=group, rules=rules)
        for host in ("h1", "h2", "h3"):
            three_hosts.build(f"on-{host}", host=host, networks=["blue"])
        yield opened
    gc.collect()


def lab_of(fleet: Fleet) -> NetworkId:
    return fleet.store.catalog.find_network("lab").id


def test_a_created_network_is_its_callers_result_and_guests_are_built_on_it(desk: NetworkDesk, fleet: Fleet) -> None:
    told = desk.ask("network.create", "make", **LAB)

    network = fleet.store.catalog.find_network("lab")
    assert told == network_view(network)
    assert fleet.store.catalog.find_network(network.id) == network
    assert network.id == created_network_id_for(OperationId("make"))
    fleet.build("web", networks=["lab"])
    (port,) = fleet.instance("web").ports
    assert (port.address, str(port.address6).startswith("fd00:5::5054:")) == ("10.5.0.2", True)


def test_the_same_again_is_the_same_network_and_a_late_double_brings_nothing_back(
    desk: NetworkDesk, fleet: Fleet
) -> None:
    told = desk.ask("network.create", "make", **LAB)

    assert desk.ask("network.create", "make", **LAB) == told
    assert desk.ask("network.create", **LAB) == {**told, "already": True}
    assert desk.ask("network.delete", network="lab") == {"id": told["id"], "name": "lab", "state": "deleted"}
    assert desk.ask("network.create", "make", **LAB) == told
    assert fleet.store.catalog.list_networks() == ()


def test_a_network_made_anew_under_an_old_name_is_another(desk: NetworkDesk) -> None:
    """Else a process that remembers the first would take the second for it."""
    first = desk.ask("network.create", **LAB)
    desk.ask("network.delete", network="lab")

    assert desk.ask("network.create", **{**LAB, "cidr": "10.6.0.0/24"})["id"] != first["id"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mtu": 1400}, "name: 'lab' is the name of another network \\(it differs in mtu\\)"),
        ({"name": "next", "cidr6": "fd06::/64"}, "cidr: 10.5.0.0/24 overlaps 10.5.0.0/24 of network 'lab'"),
        ({"name": "next", "cidr": "10.152.3.0/24"}, "cidr6: fd00:5::/64 overlaps fd00:5::/64 of network 'lab'"),
        ({"name": "next", "cidr": "10.6.0.0/24", "cidr6": "fd06::/64", "kind": "vlan"}, "segment: missing"),
        (
            {"name": "next", "cidr": "192.0.0.0/16", "cidr6": "fd06::/64"},
            "cidr: 192.0.0.0/16 holds the floating address",
        ),
    ],
)
def test_what_can_not_be_beside_what_is_there_is_refused_and_leaves_nothing(
    desk: NetworkDesk, fleet: Fleet, fields: dict[str, Any], reason: str
) -> None:
    desk.ask("floating.create", address="192.0.2.7")
    desk.ask("network.create", **LAB)

    with pytest.raises(Refused, match=reason):
        desk.ask("network.create", **{**LAB, **fields})

    assert [network.name for network in fleet.store.catalog.list_networks()] == ["lab"]


def test_of_networks_created_at_once_over_each_other_one_is_there(desk: NetworkDesk, fleet: Fleet) -> None:
    door = NetworkDoor(store=fleet.store, answers=PlainAnswers())
    start = Barrier(8)

    def create(number: int) -> bool:
        start.wait(60)
        try:
            door.create(OperationId(f"at-once-{number}"), {"name": f"n{number}", "cidr": "10.8.0.0/24"})
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))

    assert (made.count(True), len(fleet.store.catalog.list_networks())) == (1, 1)


def test_the_network_that_needs_no_configuration_can_not_be_over_another(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("network.create", name="lab", cidr="10.152.7.0/24")

    with pytest.raises(Refused, match=r"cidr: 10\.152\.0\.0/16 overlaps 10\.152\.7\.0/24 of network 'lab'"):
        fleet.begin_build("web")


def test_a_network_is_deleted_only_when_no_port_is_on_it(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("network.create", **LAB)
    fleet.build("web", networks=["lab"])
    (port,) = fleet.instance("web").ports

    with pytest.raises(Refused, match=f"network: 'lab' has port {port.id}; delete the instances"):
        desk.ask("network.delete", network="lab")
    fleet.ask("instance.delete", "del", instance="web")
    network_id = lab_of(fleet)
    desk.ask("network.delete", network="lab")

    assert [key for key in fleet.client.keys(f"*{network_id}*") if "members" in key or "address" in key] == []
    assert desk.ask("network.delete", network="lab")["already"] is True


def test_an_id_that_is_an_operations_is_no_requests(desk: NetworkDesk, fleet: Fleet) -> None:
    fleet.build("web", "build")

    desk.take("network.create", "build", **LAB)

    assert fleet.store.catalog.look_up_network("lab") is None


def test_the_default_group_is_made_at_first_use(desk: NetworkDesk, fleet: Fleet) -> None:
    made = fleet.store.groups.find("default")

    assert [rule.direction for rule in made.rules] == ["egress", "egress"]
    assert fleet.store.groups.find("default") == fleet.store.groups.find(made.id) == made
    assert fleet.store.groups.list() == (made,)
    with pytest.raises(Refused, match="security_groups: 'web': there is no such group"):
        fleet.store.groups.find("web")


def test_a_group_is_made_changed_and_deleted(desk: NetworkDesk, fleet: Fleet) -> None:
    own = {"direction": "ingress", "remote_group": "web"}
    made = desk.ask("security_group.create", name="web", rules=[own])

    assert made == group_view(fleet.store.groups.find("web"))
    assert made["rules"][0]["remote_group"] == WEB
    assert desk.ask("security_group.create", name="web", rules=[own]) == {**made, "already": True}
    with pytest.raises(Refused, match="name: 'web' is the name of another group"):
        desk.ask("security_group.create", name="web")
    assert desk.ask("security_group.update", group="web", rules=[])["rules"] == []
    assert desk.ask("security_group.update", group=WEB, rules=[])["already"] is True
    assert desk.ask("security_group.delete", group="web") == {"id": WEB, "name": "web", "state": "deleted"}
    assert desk.ask("security_group.delete", group="web")["already"] is True
    with pytest.raises(Refused, match="group: 'web': there is no such group"):
        desk.ask("security_group.update", group="web", rules=[])


def test_a_rule_names_only_groups_that_are_there_and_they_stay(desk: NetworkDesk) -> None:
    with pytest.raises(Refused, match="remote_group: 'clients': there is no such group"):
        desk.ask("security_group.create", name="web", rules=[WEB_RULE])
    desk.ask("security_group.create", name="clients")
    desk.ask("security_group.create", name="web", rules=[WEB_RULE])

    with pytest.raises(Refused, match="group: 'clients' is the remote_group of a rule of 'web'"):
        desk.ask("security_group.delete", group="clients")
    desk.ask("security_group.update", group="web", rules=[])

    assert desk.ask("security_group.delete", group="clients")["state"] == "deleted"


def test_a_port_is_put_into_groups_and_its_host_is_told(wide: NetworkDesk, three_hosts: Fleet) -> None:
    blue = three_hosts.store.catalog.find_network("blue").id

    told = wide.ask("port.update", instance="on-h2", security_groups=["web", WEB, "default"])

    (port,) = three_hosts.instance("on-h2").ports
    assert port.security_groups == (WEB, security_group_id_for("default"))
    assert told["name"] == "on-h2"
    assert wide.read_messages("h2") == [("host.refresh_networks", {"networks": [blue]}), COPY]
    assert (wide.read_messages("h1"), wide.read_messages("h3")) == ([], [])
    again = wide.ask("port.update", instance="on-h2", port=port.mac, security_groups=["web", "default"])
    assert again["already"] is True
    with pytest.raises(Refused, match=f"group: port {port.id} is in 'web'; delete its instance"):
        wide.ask("security_group.delete", group="web")
    with pytest.raises(Refused, match=r"port: '10\.7\.0\.77': instance on-h2 has no port of that id, MAC or address"):
        wide.ask("port.update", instance="on-h2", port="10.7.0.77", security_groups=[])


def test_who_must_know_of_a_group_is_told_and_nobody_else(wide: NetworkDesk, three_hosts: Fleet) -> None:
    blue = three_hosts.store.catalog.find_network("blue").id
    refresh = [("host.refresh_networks", {"networks": [blue]})]
    wide.ask("port.update", instance="on-h1", security_groups=["web"])
    wide.read_messages("h1")

    wide.ask("port.update", instance="on-h2", security_groups=["clients"])
    assert [wide.read_messages(host) for host in ("h1", "h2", "h3")] == [refresh, [*refresh, COPY], []]

    wide.ask("security_group.update", group="web", rules=[])
    assert [wide.read_messages(host) for host in ("h1", "h2", "h3")] == [refresh, [], []]


def test_groups_of_a_port_are_not_changed_while_an_operation_holds_its_instance(
    desk: NetworkDesk, fleet: Fleet
) -> None:
    fleet.begin_build("web")

    with pytest.raises(Conflicting, match="instance web is held by operation build-web; wait for it"):
        desk.ask("port.update", instance="web", security_groups=[])


def member(fleet: Fleet, name: str) -> Member:
    guest = fleet.instance(name)
    (port,) = guest.ports
    return Member(
        port_id=port.id,
        host=guest.host,
        mac=port.mac,
        addresses=port.addresses,
        security_groups=port.security_groups,
    )


def test_surroundings_are_all_that_a_host_must_know(wide: NetworkDesk, three_hosts: Fleet) -> None:
    fleet = three_hosts
    wide.ask("network.create", **LAB)
    fleet.build("other", host="h3", networks=["lab"])
    wide.ask("port.update", instance="on-h1", security_groups=["web"])
    for name in ("on-h2", "other"):
        wide.ask("port.update", instance=name, security_groups=["clients"])
    fleet.store.hosts.write_inventory(HostName("h2"), inventory())  # of no tunnels
    blue = fleet.store.catalog.find_network("blue")

    around = fleet.hosts[HostName("h1")].ports.networks.read_surroundings(blue.id)

    clients = (*member(fleet, "on-h2").addresses, *member(fleet, "other").addresses)
    members = [member(fleet, f"on-{host}") for host in ("h1", "h2", "h3")]
    groups: list[SecurityGroup] = [fleet.store.groups.find(group_id) for group_id in sorted((WEB, CLIENTS, DEFAULT))]
    assert around == Surroundings(
        network=blue,
        members=tuple(sorted(members, key=lambda one: one.port_id)),
        tunnels={HostName("h1"): "192.0.2.1", HostName("h3"): "192.0.2.3"},
        groups=tuple(groups),
        group_addresses={CLIENTS: tuple(sorted(clients))},
    )


def test_who_leaves_is_nobodys_neighbour_any_more(wide: NetworkDesk, three_hosts: Fleet) -> None:
    fleet = three_hosts
    blue = fleet.store.catalog.find_network("blue").id
    wide.ask("port.update", instance="on-h2", security_groups=["web"])
    assert list(fleet.store.surroundings.hosts_concerned([blue])) == ["h1", "h2", "h3"]
    assert fleet.store.surroundings.hosts_concerned(rules_of=[WEB]) == {"h2": (blue,)}

    fleet.ask("instance.delete", "del", instance="on-h2")

    assert list(fleet.store.surroundings.hosts_concerned([blue])) == ["h1", "h3"]
    assert fleet.store.surroundings.hosts_concerned(rules_of=[WEB]) == {}
    assert len(fleet.client.keys(KEYS.nics("*"))) == 2


def test_a_group_that_can_not_be_read_lets_nothing_in(wide: NetworkDesk, three_hosts: Fleet) -> None:
    wide.ask("port.update", instance="on-h1", security_groups=["web"])
    three_hosts.client.set(KEYS.group(WEB), "spam")

    around = three_hosts.store.surroundings.read_surroundings(three_hosts.store.catalog.find_network("blue").id)

    assert ([group.name for group in around.groups], len(around.members)) == (["default"], 3)


@pytest.mark.parametrize("text", ["spam", '{"port_id":"p","schema":99}', '{"port_id":"p"}', "1,2"])
def test_a_member_that_can_not_be_read_hides_no_other(wide: NetworkDesk, three_hosts: Fleet, text: str) -> None:
    blue = three_hosts.store.catalog.find_network("blue").id
    told: list[str] = []
    reader = SurroundingsReader(three_hosts.client, KEYS, on_unreadable=lambda problem: told.append(str(problem)))
    three_hosts.client.hset(KEYS.members(blue), "spoilt", text)

    assert len(reader.read_surroundings(blue).members) == 3
    assert list(reader.hosts_concerned([blue])) == ["h1", "h2", "h3"]
    assert [one.startswith(f"a member of network {blue}") for one in told] == [True, True]


def test_a_port_whose_group_was_deleted_meanwhile_is_not_written(desk: NetworkDesk, fleet: Fleet) -> None:
    desk.ask("security_group.create", name="web")
    fleet.build("web")
    seen = fleet.store.admission.read_holding(fleet.instance("web").id)
    assert seen is not None
    (port,) = seen.instance.ports
    changed = replace(seen.instance, ports=(replace(port, security_groups=(SecurityGroupId("gone"),)),))

    with pytest.raises(Refused, match="security_groups: group gone was deleted just now"):
        fleet.store.port_changes.write(changed, seen, PlainAnswers().answer_for(OperationId("set"), {}))


def test_a_floating_address_is_one_ports_at_most_and_goes_with_it(desk: NetworkDesk, fleet: Fleet) -> None:
    floating = FloatingAddress(id=floating_id_for("192.0.2.7"), address="192.0.2.7")
    for name in ("web", "db"):
        fleet.build(name)
    web, db = (fleet.instance(name).ports[0] for name in ("web", "db"))
    assert desk.ask("floating.create", address="192.0.2.7")["port"] is None
    assert desk.ask("floating.create", address="192.0.2.7")["already"] is True
    desk.ask("floating.create", address="192.0.2.8")

    assert desk.ask("floating.bind", floating="192.0.2.7", instance="web")["port"] == web.id
    assert desk.read_messages("h1") == [("host.refresh_networks", {"networks": [web.network_id]})]
    assert desk.ask("floating.bind", floating=floating.id, instance="web", port=web.address)["already"] is True
    with pytest.raises(Refused, match=rf"floating: 192\.0\.2\.7 is bound to port {web.id}; release it first"):
        desk.ask("floating.bind", floating="192.0.2.7", instance="db")
    with pytest.raises(Refused, match=f"port: {web.id} has floating address {floating.id} already"):
        desk.ask("floating.bind", floating="192.0.2.8", instance="web")
    with pytest.raises(Refused, match=rf"floating: 192\.0\.2\.7 is bound to port {web.id}"):
        desk.ask("floating.delete", floating="192.0.2.7")
    around = fleet.store.surroundings.read_surroundings(web.network_id)
    assert around.floating == (replace(floating, port_id=web.id),)

    fleet.ask("instance.delete", "del", instance="web")

    assert fleet.store.floating.look_up("192.0.2.7") == floating
    assert desk.ask("floating.bind", floating="192.0.2.7", instance="db")["port"] == db.id
    assert desk.ask("floating.release", floating="192.0.2.7")["port"] is None
    assert desk.ask("floating.release", floating="192.0.2.7")["already"] is True
    assert desk.ask("floating.delete", floating="192.0.2.7")["state"] == "deleted"
    assert [one.address for one in fleet.store.floating.list()] == ["192.0.2.8"]


def test_a_floating_address_is_outer_and_for_networks_whose_host_is_the_way_out(
    wide: NetworkDesk, three_hosts: Fleet
) -> None:
    wide.ask("floating.create", address="192.0.2.7")

    with pytest.raises(Refused, match=r"address: 10\.7\.0\.9 is in 10\.7\.0\.0/24 of network 'blue'"):
        wide.ask("floating.create", address="10.7.0.9")
    with pytest.raises(Refused, match="'blue', a vxlan network; only ports of nat and routed networks may have"):
        wide.ask("floating.bind", floating="192.0.2.7", instance="on-h1")
    with pytest.raises(Refused, match=r"floating: '192\.0\.2\.8': there is no such address"):
        wide.ask("floating.bind", floating="192.0.2.8", instance="on-h1")
    with pytest.raises(Refused, match="instance: 'nobody': there is no instance"):
        wide.ask("floating.bind", floating="192.0.2.7", instance="nobody")


def test_a_change_of_which_nobody_could_be_told_stands(
    desk: NetworkDesk, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.build("web")
    fleet.store.groups.find("default")

    def silent(*_: object, **__: object) -> None:
        raise ConnectionError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr("celery.Celery.send_task", silent)
        desk.take("port.update", "set", instance="web", security_groups=["default"])

    assert fleet.instance("web").ports[0].security_groups == (security_group_id_for("default"),)
    assert desk.ask("port.update", "set", instance="web", security_groups=["default"])["name"] == "web"


def test_a_record_that_an_older_version_wrote_is_found_after_its_next_write_or_its_hosts_next_start(
    wide: NetworkDesk, three_hosts: Fleet
) -> None:
    fleet, concerned = three_hosts, three_hosts.store.surroundings.hosts_concerned
    blue = fleet.store.catalog.find_network("blue").id
    for host in ("h1", "h2", "h3"):
        fleet.client.delete(KEYS.nics(fleet.instance(f"on-{host}").id))
    fleet.client.delete(KEYS.members(blue))

    fleet.ask("instance.reboot", "again", instance="on-h1")
    assert list(concerned([blue])) == ["h1"]

    ensure_placed = fleet.store.port_changes.ensure_placed
    assert [ensure_placed(HostName(host)) for host in ("h1", "h2", "h2")] == [0, 1, 0]
    assert list(concerned([blue])) == ["h1", "h2"]
    fleet.client.set(KEYS.instance(fleet.instance("on-h3").id), "spam")
    assert ensure_placed(HostName("h3")) == 0
