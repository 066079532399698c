"""Finding a host and claiming it; on a lost race the next, and after a refusal the next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.door import Admitted
from tasks.placing import ROUNDS_LIMIT, place
from taskvisor.compute.placement import PACK, Ask, Placement, Placer, placement_for, rules_for
from taskvisor.model.errors import DoesNotFit, NoCapacity, Refused, Retryable
from taskvisor.model.ids import HostName, InstanceId, OperationId, instance_id_for
from taskvisor.model.operation import Operation
from taskvisor.model.placement import Explanation
from taskvisor.model.records import Claim, Host, Resources
from taskvisor.state.explanations import KEEP_S
from taskvisor.state.fleet_view import FleetView
from taskvisor.state.keys import Keys
from tests.support.fleet import IMAGE, SMALL, Fleet
from tests.support.records import instance, operation
from tests.tasks.doors import refuse_once

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")


def test_a_guest_goes_where_most_memory_is_free(three_hosts: Fleet) -> None:
    assert three_hosts.build().host == "h1"


def test_a_guest_goes_where_it_was_asked_to_go(three_hosts: Fleet) -> None:
    operation = three_hosts.build("web", host="h3")

    assert (operation.host, three_hosts.instance().host) == ("h3", "h3")
    assert [(said["host"], said["rule"], said["reason"]) for said in operation.placement] == [
        ("h1", "host", "only host h3 was asked for"),
        ("h2", "host", "only host h3 was asked for"),
    ]


def test_what_every_rule_said_is_kept_with_the_operation(three_hosts: Fleet) -> None:
    operation = three_hosts.build("web", flavor="c1-m1500-d1")

    assert operation.placement == (
        {
            "host": "h3",
            "rule": "capacity",
            "reason": "memory_mib 1500 asked, 1024 of 1024 free",
            "remedy": "memory_mib: ask for at most 1024; more does not go on this host even when it is empty",
        },
    )
    assert operation.choice is not None
    assert (operation.choice.hosts, operation.choice.fitting, operation.choice.refused) == (3, 2, {"capacity": 1})
    assert [(one.host, one.score) for one in operation.choice.best] == [("h1", 1.0), ("h2", 0.0)]


def test_a_silent_host_gets_no_guests(three_hosts: Fleet) -> None:
    three_hosts.client.delete("taskvisor:alive:h1")

    assert three_hosts.build().host == "h2"


def test_guests_of_many_callers_at_once_never_take_more_than_there_is(redis_url: str, memory_dir: Path) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"), memory_mib={"h1": 256, "h2": 192})

    def build(number: int) -> bool:
        try:
            fleet.door.build(  # each in its own thread
                f"op-{number}",  # type: ignore[arg-type]
                {"name": f"web{number}", "image": IMAGE, "flavor": SMALL},
            )
        except NoCapacity:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        let_in = list(pool.map(build, range(16)))

    assert sum(let_in) == 4 + 3
    assert {host.name: host.used.memory_mib for host in fleet.store.hosts.list_hosts()} == {"h1": 256, "h2": 192}
    assert len(fleet.client.hgetall("taskvisor:addresses:" + fleet.store.catalog.list_networks()[0].id)) == 7
    fleet.close()


def test_a_host_that_filled_up_meanwhile_is_passed_over_and_said_so(three_hosts: Fleet) -> None:
    asked: list[Claim] = []

    def claiming(claim: Claim, why: Explanation) -> Operation:
        asked.append(claim)
        if claim.host != "h3":
            raise DoesNotFit(f"host {claim.host}: full")
        return replace(three_hosts.build("other"), placement=why.rows, choice=why.choice)

    placed = place(
        three_hosts.store, Placer(), Ask(resources=Resources(vcpus=1, memory_mib=64)), InstanceId("i"), claiming
    )

    assert [claim.host for claim in asked] == ["h1", "h2", "h3"]
    limits = asked[0].limits
    assert (limits.vcpus, limits.memory_mib, limits.disk_gib) == (256, 4096, 16_384)
    assert [(said["host"], said["rule"], said["reason"]) for said in placed.placement] == [
        ("h1", "claim", "host h1: full"),
        ("h2", "claim", "host h2: full"),
    ]


def test_hosts_that_fill_up_each_time_they_are_looked_at_are_looked_at_a_few_times(three_hosts: Fleet) -> None:
    asked: list[HostName] = []

    def claiming(claim: Claim, _: Explanation) -> Operation:
        asked.append(claim.host)
        raise DoesNotFit("full")

    with pytest.raises(Retryable, match="every host that had room was full by the time of the claim; ask again"):
        place(three_hosts.store, Placer(), Ask(resources=Resources(vcpus=1)), InstanceId("i"), claiming)

    assert asked == ["h1", "h2", "h3"] * ROUNDS_LIMIT


def test_when_no_host_fits_nothing_is_claimed(three_hosts: Fleet) -> None:
    def claiming(claim: Claim, _: Explanation) -> Operation:
        pytest.fail(f"{claim} should not be asked for")

    with pytest.raises(NoCapacity, match="no host fits"):
        place(three_hosts.store, Placer(), Ask(resources=Resources(vcpus=1000)), InstanceId("i"), claiming)


def test_an_answer_says_where_it_went(three_hosts: Fleet) -> None:
    answer = three_hosts.answer("instance.build", "op", {"name": "web", "image": IMAGE, "flavor": SMALL})

    assert isinstance(answer, Admitted)
    assert answer.operation.host == "h1"


def test_placement_is_the_same_function_that_explains(three_hosts: Fleet) -> None:
    hosts: tuple[Host, ...] = three_hosts.store.hosts.list_hosts()

    found: Placement = placement_for(Ask(resources=Resources(memory_mib=1500)), hosts)

    assert [host.name for host in found.candidates] == ["h1", "h2"]


def test_a_host_refuses_what_nobody_could_have_known(three_hosts: Fleet) -> None:
    with pytest.raises(Refused):
        three_hosts.build("web", networks=["nosuch"])


def test_a_thousand_requests_at_once_never_overcommit_a_host_by_one(redis_url: str, memory_dir: Path) -> None:
    """Four placers, as four processes would be, each with its own view of the fleet, and eight requests of each at a time."""
    rooms = {f"h{number}": 64 * (number + 20) for number in range(16)}
    fleet = Fleet(redis_url, memory_dir, hosts=tuple(rooms), memory_mib=rooms)
    keys = Keys("taskvisor:")
    nodes = [(replace(fleet.store, fleet=FleetView(fleet.client, keys)), Placer()) for _ in range(4)]
    ask = Ask(resources=Resources(vcpus=1, memory_mib=64, disk_gib=1))

    def build(number: int) -> bool:
        store, placer = nodes[number % len(nodes)]

        def claiming(claim: Claim, why: Explanation) -> Operation:
            guest = instance(f"web{number}", f"op-{number}", host=claim.host, ports=())
            made = operation(f"op-{number}", guest, placement=why.rows, choice=why.choice)
            store.admission.admit_build(made, guest, claim)
            return made

        try:
            place(store, placer, ask, instance_id_for(OperationId(f"op-{number}")), claiming)
        except (NoCapacity, Retryable):
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        let_in = sum(pool.map(build, range(1000)))

    hosts = fleet.store.hosts.list_hosts()
    assert {str(host.name): host.used.memory_mib for host in hosts} == rooms
    assert {str(host.name): host.instances * 64 for host in hosts} == rooms
    assert let_in == sum(rooms.values()) // 64 < 1000
    fleet.close()


def test_a_build_that_nobody_takes_is_explained_under_its_id(three_hosts: Fleet) -> None:
    with pytest.raises(NoCapacity):
        three_hosts.build("web", "op-1", flavor="c1-m9000-d1")

    why = three_hosts.store.explanations.read(OperationId("op-1"))

    assert why is not None
    assert [(row["host"], row["remedy"].partition(";")[0]) for row in why.rows] == [
        (f"h{number}", f"memory_mib: ask for at most {free}") for number, free in ((1, 4096), (2, 2048), (3, 1024))
    ]
    assert 0 < three_hosts.client.ttl("taskvisor:why:op-1") <= KEEP_S


def test_a_host_that_fell_silent_since_it_was_looked_at_is_passed_over(three_hosts: Fleet) -> None:
    three_hosts.build("one")
    three_hosts.client.delete("taskvisor:alive:h1")  # and the view of the fleet is younger than a second

    operation = three_hosts.build("two")

    assert (operation.host, [(row["host"], row["rule"]) for row in operation.placement]) == ("h2", [("h1", "up")])


def test_rules_and_weights_are_those_that_settings_choose(three_hosts: Fleet) -> None:
    packing = replace(three_hosts.door, placer=Placer(rules_for((), {}, PACK)))

    answer = packing.build(OperationId("op"), {"name": "web", "image": IMAGE, "flavor": SMALL})

    assert isinstance(answer, Admitted)
    assert answer.operation.host == "h3"


def test_a_guest_that_is_tried_elsewhere_is_weighed_there_too(three_hosts: Fleet) -> None:
    settler = replace(three_hosts.settler, placer=Placer(rules_for((), {}, PACK)))
    assert settler.placer is not three_hosts.settler.placer
    refuse_once(three_hosts, "h1")
    three_hosts.settler = settler

    moved = three_hosts.build("web", flavor=SMALL)

    assert (moved.excluded_hosts, moved.host) == (("h1",), "h3")
    assert moved.choice is not None
    assert moved.choice.best[0].host == "h3"
