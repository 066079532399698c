"""Several builds at once: all or what fits, each an operation of its own, the same request the same builds."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.batch import LetIn, build_many
from taskvisor.model.errors import NoCapacity, Refused
from taskvisor.model.ids import OperationId
from taskvisor.model.states import Phase
from tests.support.fleet import IMAGE, Fleet
from tests.support.network_desk import NetworkDesk, open_network_desk
from tests.support.world import read_held
from tests.tasks.doors import Meanwhile

BATCH = OperationId("batch")
ASKED: dict[str, Any] = {"name": "web", "image": IMAGE, "flavor": "c1-m512-d1"}


@pytest.fixture
def desk(redis_url: str, three_hosts: Fleet) -> Iterator[NetworkDesk]:
    with open_network_desk(redis_url, three_hosts) as opened:
        yield opened


def run(fleet: Fleet, let_in: LetIn) -> list[Phase]:
    """All of them are carried to their end."""
    for member in let_in.members:
        fleet.post.launch(member.operation)
    fleet.post.deliver_all()
    return [fleet.read(member.operation.id).phase for member in let_in.members]


def test_all_of_them_are_built_where_each_fits_best(three_hosts: Fleet) -> None:
    let_in = build_many(three_hosts.door, BATCH, {**ASKED, "count": 6})

    assert let_in.result is not None
    assert [(one["operation"], one["name"]) for one in let_in.result["operations"]] == [
        (f"batch-{number}", f"web-{number}") for number in range(1, 7)
    ]
    assert Counter(one["host"] for one in let_in.result["operations"]) == {"h1": 5, "h2": 1}
    assert (let_in.result["asked"], let_in.result["why_not_all"]) == (6, None)
    assert run(three_hosts, let_in) == [Phase.SUCCEEDED] * 6


def test_when_not_all_fit_none_is_let_in(three_hosts: Fleet) -> None:
    before = read_held(three_hosts)

    with pytest.raises(NoCapacity, match="14 of 20 would fit, and 20 are the least; no host fits"):
        build_many(three_hosts.door, BATCH, {**ASKED, "count": 20})

    assert {key: value for key, value in read_held(three_hosts).items() if "network" not in key} == before
    assert three_hosts.store.explanations.read(BATCH) is not None


def test_as_many_as_fit_are_let_in_where_fewer_will_do(three_hosts: Fleet) -> None:
    let_in = build_many(three_hosts.door, BATCH, {**ASKED, "count": 20, "min_count": 10})

    assert let_in.result is not None
    assert (len(let_in.result["operations"]), let_in.result["why_not_all"]) == (14, "no host has room for more")


def test_the_same_request_again_is_the_same_builds(three_hosts: Fleet) -> None:
    first = build_many(three_hosts.door, BATCH, {**ASKED, "count": 3})
    again = build_many(three_hosts.door, BATCH, {**ASKED, "count": 3})

    assert [one.operation.id for one in again.members] == [one.operation.id for one in first.members]
    assert again.result == first.result
    assert sum(host.instances for host in three_hosts.store.hosts.list_hosts()) == 3


def test_a_batch_whose_name_is_taken_half_way_is_taken_back(three_hosts: Fleet) -> None:
    three_hosts.build("web-3")
    before = read_held(three_hosts)

    let_in = build_many(three_hosts.door, BATCH, {**ASKED, "count": 4})

    assert isinstance(let_in.error, Refused)
    assert "name: 'web-3' is the name of instance" in str(let_in.error)
    assert run(three_hosts, let_in) == [Phase.CANCELLED, Phase.CANCELLED]
    assert read_held(three_hosts) == before


def test_a_batch_that_loses_its_room_half_way_is_taken_back(three_hosts: Fleet) -> None:
    looks: list[int] = []

    def fill() -> None:
        looks.append(1)
        if len(looks) == 4:
            for host in ("h1", "h2", "h3"):
                three_hosts.client.hset(f"taskvisor:used:{host}", "memory_mib", 4096)
                three_hosts.client.zadd("taskvisor:hosts:moved", {host: 1e9})

    door = Meanwhile(three_hosts, "fleet.hears", fill, times=9).door

    let_in = build_many(door, BATCH, {**ASKED, "count": 6})

    assert isinstance(let_in.error, NoCapacity)
    assert set(run(three_hosts, let_in)) == {Phase.CANCELLED}
    assert three_hosts.store.catalog.list_instances() == ()


def test_guests_of_a_batch_keep_the_policy_of_their_group(desk: NetworkDesk, three_hosts: Fleet) -> None:
    desk.ask("server_group.create", name="db", policy="anti-affinity")

    with pytest.raises(NoCapacity, match="3 of 4 would fit"):
        build_many(three_hosts.door, BATCH, {**ASKED, "count": 4, "server_group": "db"})
    let_in = build_many(three_hosts.door, BATCH, {**ASKED, "count": 4, "min_count": 2, "server_group": "db"})

    assert let_in.result is not None
    assert sorted(one["host"] for one in let_in.result["operations"]) == ["h1", "h2", "h3"]


def test_its_caller_gets_the_list_and_each_build_goes_on_by_itself(desk: NetworkDesk, three_hosts: Fleet) -> None:
    result = desk.ask("instance.build_many", "batch", **ASKED, count=2)

    assert [one["operation"] for one in result["operations"]] == ["batch-1", "batch-2"]
    assert {three_hosts.read(one["operation"]).phase for one in result["operations"]} == {Phase.RUNNING}
    with pytest.raises(NoCapacity, match="would fit"):
        desk.ask("instance.build_many", "more", **{**ASKED, "name": "db"}, count=90)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"count": 0}, "count: 0"),
        ({"count": 101}, "count: 101"),
        ({"count": 2, "min_count": 3}, "min_count: 3: is more than count 2"),
        ({"count": 2, "name": "w" * 63}, "name: .* is too long; 63 characters are the most"),
        ({"count": 2, "networks": [{"network": "default", "address": "10.152.0.9"}]}, "networks: address: 2 instances"),
        ({"count": 2, "host": "h1", "volumes": ["file:///srv/v.raw"]}, "volumes: 2 instances can't have the same"),
        ({}, "count: missing"),
    ],
)
def test_what_can_not_be_several_is_refused(three_hosts: Fleet, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        build_many(three_hosts.door, BATCH, {**ASKED, **fields})


def test_an_id_that_leaves_no_room_for_those_of_the_builds_is_refused(three_hosts: Fleet) -> None:
    with pytest.raises(Refused, match="is too long for the ids of 10 builds"):
        build_many(three_hosts.door, OperationId("x" * 126), {**ASKED, "count": 10})
