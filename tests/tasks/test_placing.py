"""Finding a host and claiming it; on a lost race the next, and after a refusal the next."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.door import Admitted
from tasks.placing import ROUNDS_LIMIT, Table, place
from taskvisor.compute.placement import Ask, Placement, placement_for
from taskvisor.model.errors import DoesNotFit, NoCapacity, Refused, Retryable
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Claim, Host, Resources
from tests.support.fleet import IMAGE, SMALL, Fleet

H1, H2, H3 = HostName("h1"), HostName("h2"), HostName("h3")


def test_a_guest_goes_where_most_memory_is_free(three_hosts: Fleet) -> None:
    assert three_hosts.build().host == "h1"


def test_a_guest_goes_where_it_was_asked_to_go(three_hosts: Fleet) -> None:
    operation = three_hosts.build("web", host="h3")

    assert (operation.host, three_hosts.instance().host) == ("h3", "h3")
    assert [tuple(said.values()) for said in operation.placement] == [
        ("h1", "host", "only host h3 was asked for"),
        ("h2", "host", "only host h3 was asked for"),
    ]


def test_what_every_rule_said_is_kept_with_the_operation(three_hosts: Fleet) -> None:
    operation = three_hosts.build("web", flavor="c1-m1500-d1")

    assert operation.placement == (
        {"host": "h3", "rule": "capacity", "reason": "memory_mib 1500 asked, 1024 of 1024 free"},
    )


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

    def claiming(claim: Claim, table: Table) -> Operation:
        asked.append(claim)
        if claim.host != "h3":
            raise DoesNotFit(f"host {claim.host}: full")
        return replace(three_hosts.build("other"), placement=table)

    placed = place(three_hosts.store, Ask(resources=Resources(vcpus=1, memory_mib=64)), InstanceId("i"), claiming)

    assert [claim.host for claim in asked] == ["h1", "h2", "h3"]
    limits = asked[0].limits
    assert (limits.vcpus, limits.memory_mib, limits.disk_gib) == (256, 4096, 16_384)
    assert placed.placement == (
        {"host": "h1", "rule": "claim", "reason": "host h1: full"},
        {"host": "h2", "rule": "claim", "reason": "host h2: full"},
    )


def test_hosts_that_fill_up_each_time_they_are_looked_at_are_looked_at_a_few_times(three_hosts: Fleet) -> None:
    asked: list[HostName] = []

    def claiming(claim: Claim, _: Table) -> Operation:
        asked.append(claim.host)
        raise DoesNotFit("full")

    with pytest.raises(Retryable, match="every host that had room was full by the time of the claim; ask again"):
        place(three_hosts.store, Ask(resources=Resources(vcpus=1)), InstanceId("i"), claiming)

    assert asked == ["h1", "h2", "h3"] * ROUNDS_LIMIT


def test_when_no_host_fits_nothing_is_claimed(three_hosts: Fleet) -> None:
    def claiming(claim: Claim, _: Table) -> Operation:
        pytest.fail(f"{claim} should not be asked for")

    with pytest.raises(NoCapacity, match="no host fits"):
        place(three_hosts.store, Ask(resources=Resources(vcpus=1000)), InstanceId("i"), claiming)


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
