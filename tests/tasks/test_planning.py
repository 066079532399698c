"""What a build would come to, told without touching anything."""

from typing import Any

import msgspec
import pytest

from tasks.planning import plan_build, plan_on_host
from taskvisor.model.errors import NoCapacity, Refused
from taskvisor.model.ids import OperationId
from tests.support.fleet import IMAGE, Fleet
from tests.support.network_desk import open_network_desk
from tests.support.world import read_everything, read_hosts

PLAN = OperationId("plan-1")
ASKED: dict[str, Any] = {"name": "web", "image": IMAGE, "flavor": "c1-m512-d1-s256"}


def plan(fleet: Fleet, **fields: Any) -> Any:
    """Both halves, as the edge carries the first one's answer to the host: as JSON."""
    planned = plan_build(fleet.door, PLAN, {**ASKED, **fields})
    request, placement = (
        msgspec.json.decode(msgspec.json.encode(part)) for part in (planned.request, planned.placement)
    )
    return plan_on_host(fleet.hosts[planned.host].ports, fleet.door, planned.host, request, placement)


def test_a_plan_tells_the_host_and_why_the_disks_the_nics_and_the_xml(three_hosts: Fleet) -> None:
    told = plan(three_hosts)

    assert told["host"] == "h1"
    assert [one["host"] for one in told["placement"]["choice"]["best"]] == ["h1", "h2", "h3"]
    assert [(disk["role"], disk["device"]) for disk in told["disks"]] == [
        ("root", "vda"),
        ("swap", "vdb"),
        ("seed", "sda"),
    ]
    assert [(nic["address"], nic["kind"]) for nic in told["nics"]] == [("10.152.0.2", "nat")]
    assert "<memory" in told["xml"]
    assert told["nics"][0]["mac"] in told["xml"]
    assert told["allocated"][0] == "the address of NIC 0 is the next likely one"


def test_a_plan_touches_neither_store_nor_host(three_hosts: Fleet) -> None:
    before, hosts = read_everything(three_hosts.client), read_hosts(three_hosts)

    plan(three_hosts, networks=["default", {"network": "default", "address": "10.152.0.77"}])

    assert read_everything(three_hosts.client) == before
    assert read_hosts(three_hosts) == hosts


def test_a_build_comes_to_what_its_plan_told(three_hosts: Fleet) -> None:
    three_hosts.build("other")
    told = plan(three_hosts)

    built = three_hosts.build("web", flavor=ASKED["flavor"])

    guest = three_hosts.instance()
    assert (built.host, guest.addresses) == (told["host"], tuple(nic["address"] for nic in told["nics"]))
    layout = built.facts["prepare_disk"]["layout"]
    assert [(disk["device"], disk["size_bytes"]) for disk in layout["disks"]] == [
        (disk["device"], disk["size_bytes"]) for disk in told["disks"]
    ]


@pytest.mark.parametrize(
    ("fields", "error", "sentence"),
    [
        ({"flavor": "c1-m9000-d1"}, NoCapacity, "no host fits .*: h1: memory_mib 9000 asked, 4032 of 4096 free"),
        ({"networks": ["lab"]}, Refused, "networks: 'lab': there is no such network"),
        ({"name": "there"}, Refused, "name: 'there' is the name of instance"),
        ({"flavor": "nosuch"}, Refused, "there is no such flavor"),
        ({"availability_zone": "moon"}, Refused, "availability_zone: 'moon': no host is in it; known: none"),
    ],
)
def test_a_plan_is_refused_as_its_build_would_be(
    three_hosts: Fleet, fields: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    three_hosts.build("there")

    with pytest.raises(error, match=sentence):
        plan(three_hosts, **fields)


def test_the_host_that_is_found_is_asked_under_the_requests_own_id(redis_url: str, three_hosts: Fleet) -> None:
    with open_network_desk(redis_url, three_hosts) as desk:
        desk.take("instance.plan", "plan-1", **ASKED)

        ((task, fields),) = desk.read_messages("h1")

    assert task == "host.plan"
    assert fields["request"]["name"] == "web"
    assert fields["placement"]["choice"]["best"][0]["host"] == "h1"


def test_a_plan_that_can_not_be_is_told_to_its_caller_and_no_host_is_asked(redis_url: str, three_hosts: Fleet) -> None:
    with open_network_desk(redis_url, three_hosts) as desk:
        with pytest.raises(NoCapacity, match="no host fits"):
            desk.ask("instance.plan", **{**ASKED, "flavor": "c1-m9000-d1"})

        assert desk.read_messages("h1") == []
