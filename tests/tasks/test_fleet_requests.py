"""Requests about hosts, aggregates and server groups, through the edge as Celery calls it; and what placement makes of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from taskvisor.model.errors import NoCapacity, Refused
from taskvisor.model.states import Phase
from tests.support.fleet import Fleet
from tests.support.network_desk import NetworkDesk, open_network_desk
from tests.tasks.doors import Failing, refuse_once


@pytest.fixture
def desk(redis_url: str, three_hosts: Fleet) -> Iterator[NetworkDesk]:
    with open_network_desk(redis_url, three_hosts) as opened:
        yield opened


def test_a_disabled_host_gets_no_guests_until_it_is_enabled(desk: NetworkDesk, three_hosts: Fleet) -> None:
    assert desk.ask("host.disable", host="h1", reason="new disks") == {"name": "h1", "disabled_reason": "new disks"}
    passed = three_hosts.build("one")
    assert (passed.host, [row["reason"] for row in passed.placement]) == ("h2", ["it is disabled: new disks"])

    desk.ask("host.enable", host="h1")

    assert three_hosts.build("two").host == "h1"


def test_labels_are_given_changed_and_taken_away(desk: NetworkDesk, three_hosts: Fleet) -> None:
    assert desk.ask("host.label", host="h3", labels={"gpu": "a100", "rack": "7"})["labels"] == {
        "gpu": "a100",
        "rack": "7",
    }
    assert three_hosts.build("gpu", require_labels=["gpu=a100"]).host == "h3"

    again = desk.ask("host.label", host="h3", labels={"gpu": "h100"}, remove=["rack"])
    assert again["labels"] == {"gpu": "h100"}
    assert desk.ask("host.label", host="h3", labels={"gpu": "h100"})["already"] is True

    assert three_hosts.build("any", forbid_labels=["gpu"]).host == "h1"
    with pytest.raises(NoCapacity, match="h1: it lacks label gpu=a100"):
        three_hosts.build("none", require_labels=["gpu=a100"])


@pytest.mark.parametrize(
    ("task", "fields", "sentence"),
    [
        ("host.disable", {"host": "h1"}, "reason: missing"),
        ("host.disable", {"host": "h1", "reason": " "}, "reason: "),
        ("host.disable", {"host": "h9", "reason": "x"}, "host: 'h9': no host of that name ever reported"),
        ("host.label", {"host": "h1", "labels": {"a b": "c"}}, "labels"),
        ("host.label", {"host": "h1", "labels": {"a": "b c"}}, "labels.a: 'b c'"),
        ("host.label", {"host": "h1", "labels": {"a": "b"}, "remove": ["a"]}, "remove: a: is given a value too"),
        ("aggregate.create", {"name": "a", "hosts": ["h9"]}, "host: 'h9': no host of that name ever reported"),
        ("aggregate.set", {"aggregate": "none", "properties": {"a": "b"}}, "there is no such aggregate"),
        ("server_group.create", {"name": "g", "policy": "near"}, "policy: 'near'"),
        (
            "server_group.create",
            {"name": "g", "policy": "affinity", "servers_per_host": 2},
            "servers_per_host: 2: goes with anti-affinity only",
        ),
    ],
)
def test_a_wrong_request_is_told_field_value_and_rule(
    desk: NetworkDesk, task: str, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        desk.ask(task, **fields)


def test_the_id_of_an_operation_is_no_requests(desk: NetworkDesk, three_hosts: Fleet) -> None:
    three_hosts.build("web", "op-1")

    desk.take("host.disable", "op-1", host="h1", reason="new disks")  # dropped: what its caller sees stays the build's

    assert three_hosts.build("db").host == "h1"


def test_an_aggregate_with_a_zone_takes_guests_that_ask_for_it_and_a_host_is_in_one_zone(
    desk: NetworkDesk, three_hosts: Fleet
) -> None:
    made = desk.ask("aggregate.create", name="east", hosts=["h3"], properties={"availability_zone": "east"})
    assert (made["zone"], made["hosts"]) == ("east", ["h3"])
    assert desk.ask("aggregate.create", name="east", hosts=["h3"], properties={"availability_zone": "east"})["already"]
    desk.ask("aggregate.create", name="west", properties={"availability_zone": "west"})

    assert three_hosts.build("web", availability_zone="east").host == "h3"
    with pytest.raises(Refused, match="host h3 would be in two zones, east and west"):
        desk.ask("aggregate.add_host", aggregate="west", host="h3")
    with pytest.raises(Refused, match=r"availability_zone: 'west': no host is in it; known: east"):
        three_hosts.build("other", availability_zone="west")

    desk.ask("aggregate.add_host", aggregate="west", host="h2")
    assert three_hosts.build("other", availability_zone="west").host == "h2"


def test_an_aggregate_that_is_kept_for_a_project_takes_no_others_guests(desk: NetworkDesk, three_hosts: Fleet) -> None:
    desk.ask("aggregate.create", name="cage", hosts=["h1"])
    desk.ask("aggregate.set", aggregate="cage", properties={"filter_tenant_id": "blue", "ssd": "true"})

    assert three_hosts.build("mine", project="blue").host == "h1"
    assert three_hosts.build("other").host == "h2"
    flavor = {
        "vcpus": 1,
        "memory_mib": 64,
        "disk_gib": 1,
        "extra_specs": {"aggregate_instance_extra_specs:ssd": "true"},
    }
    with pytest.raises(NoCapacity, match="no aggregate of it has ssd as 'true'"):
        three_hosts.build("fast", flavor=flavor)

    desk.ask("aggregate.set", aggregate="cage", remove=["filter_tenant_id"])
    assert three_hosts.build("fast", flavor=flavor).host == "h1"


def test_an_aggregate_is_deleted_when_no_host_is_in_it(desk: NetworkDesk) -> None:
    desk.ask("aggregate.create", name="a", hosts=["h1"])
    with pytest.raises(Refused, match=r"aggregate: 'a' has hosts \(h1\)"):
        desk.ask("aggregate.delete", aggregate="a")
    with pytest.raises(Refused, match="name: 'a' is the name of another aggregate"):
        desk.ask("aggregate.create", name="a", hosts=["h2"])

    assert desk.ask("aggregate.remove_host", aggregate="a", host="h1")["hosts"] == []
    assert desk.ask("aggregate.delete", aggregate="a") == {"name": "a", "state": "deleted"}
    assert desk.ask("aggregate.delete", aggregate="a")["already"] is True


def test_guests_of_a_group_are_apart_until_there_is_no_host_left(desk: NetworkDesk, three_hosts: Fleet) -> None:
    made = desk.ask("server_group.create", name="db", policy="anti-affinity")
    assert desk.ask("server_group.create", name="db", policy="anti-affinity")["already"] is True
    with pytest.raises(Refused, match="name: 'db' is the name of another server group"):
        desk.ask("server_group.create", name="db", policy="affinity")

    placed = [
        three_hosts.build(f"db{number}", server_group=name).host for number, name in enumerate(("db", made["id"], "db"))
    ]

    assert sorted(placed) == ["h1", "h2", "h3"]
    with pytest.raises(NoCapacity, match="h1: it has 1 of server group db, and may have 1"):
        three_hosts.build("db4", server_group="db")
    with pytest.raises(Refused, match="server_group: 'db' has instance"):
        desk.ask("server_group.delete", server_group="db")
    for number in range(3):
        three_hosts.ask("instance.delete", f"delete{number}", instance=f"db{number}")
    assert desk.ask("server_group.delete", server_group="db")["state"] == "deleted"


def test_guests_that_belong_together_are_on_one_host(desk: NetworkDesk, three_hosts: Fleet) -> None:
    desk.ask("server_group.create", name="pair", policy="affinity")
    first = three_hosts.build("one", host="h3", server_group="pair")

    assert (first.host, three_hosts.build("two", server_group="pair").host) == ("h3", "h3")
    with pytest.raises(NoCapacity, match="h3: memory_mib 2000 asked, 896 of 1024 free"):
        three_hosts.build("large", server_group="pair", flavor="c1-m2000-d1")


def test_guests_that_would_rather_be_apart_are_as_long_as_they_can(desk: NetworkDesk, three_hosts: Fleet) -> None:
    desk.ask("server_group.create", name="web", policy="soft-anti-affinity")

    placed = [three_hosts.build(f"web{number}", server_group="web").host for number in range(4)]

    assert sorted(placed[:3]) == ["h1", "h2", "h3"]
    assert placed[3] == "h1"


def test_guests_that_would_rather_be_together_are(desk: NetworkDesk, three_hosts: Fleet) -> None:
    desk.ask("server_group.create", name="web", policy="soft-affinity")
    three_hosts.build("web0", server_group="web", host="h3")

    assert three_hosts.build("web1", server_group="web").host == "h3"
    assert three_hosts.build("web2", server_group="web", flavor="c1-m2000-d1").host == "h1"


def test_a_guest_that_is_tried_elsewhere_is_a_member_there_and_one_that_fails_is_none(
    desk: NetworkDesk, three_hosts: Fleet
) -> None:
    made = desk.ask("server_group.create", name="db", policy="anti-affinity")
    three_hosts.build("first", server_group="db")
    refuse_once(three_hosts, "h2")

    moved = three_hosts.build("second", server_group="db")
    assert (moved.host, moved.excluded_hosts) == ("h3", ("h2",))
    members = three_hosts.store.server_groups.find(made["id"])[1]
    assert members == {three_hosts.instance("first").id: "h1", three_hosts.instance("second").id: "h3"}

    refuse_once(three_hosts, "h2")
    failed = three_hosts.build("third", server_group="db")
    assert failed.phase is Phase.FAILED
    assert {row["host"]: row["rule"] for row in failed.placement} == {
        "h1": "server_group",
        "h2": "excluded",
        "h3": "server_group",
    }
    assert three_hosts.store.server_groups.find(made["id"])[1] == members


def test_a_host_on_which_builds_fail_is_chosen_last_and_then_not_at_all(three_hosts: Fleet) -> None:
    three_hosts.use_port("fabric", Failing())
    broken = three_hosts.build("one")
    assert (broken.host, broken.phase) == ("h1", Phase.STUCK)

    assert three_hosts.build("two").host == "h2"
    assert [host.failed_builds for host in three_hosts.store.hosts.list_hosts()] == [1, 0, 0]
