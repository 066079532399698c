"""Hosts as they report themselves."""

import time

import pytest
import redis

from taskvisor.model.aggregate import Aggregate
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.records import Host, Resources
from taskvisor.state.admission import Admission
from taskvisor.state.codec import encode
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from tests.support.records import claim, instance, inventory, operation

H1, H2 = HostName("h1"), HostName("h2")


def test_a_host_is_known_once_it_has_reported(hosts: Hosts) -> None:
    hosts.note_alive(H1, "first", keep_s=60)
    assert hosts.list_hosts() == ()

    hosts.write_inventory(H1, inventory())

    assert hosts.list_hosts() == (
        Host(name=H1, inventory=inventory(), used=Resources(), instances=0, up=True, reported_at=1.0),
    )


def test_an_inventory_is_written_again_only_when_it_has_changed(hosts: Hosts, client: redis.Redis, keys: Keys) -> None:
    first, again, other = inventory(at=1.0), inventory(at=61.0), inventory(at=121.0, vcpus=32)
    assert hosts.write_inventory(H1, first) is None
    text = client.hget(keys.host(H1), "inventory")

    assert hosts.write_inventory(H1, again) == first
    assert client.hget(keys.host(H1), "inventory") == text
    assert [host.reported_at for host in hosts.list_hosts()] == [61.0]

    assert hosts.write_inventory(H1, other) == first
    assert [(host.inventory, host.reported_at) for host in hosts.list_hosts()] == [(other, 121.0)]


def test_an_inventory_that_cannot_be_read_is_written_anew(hosts: Hosts, client: redis.Redis, keys: Keys) -> None:
    client.hset(keys.host(H1), "inventory", "{")
    assert hosts.write_inventory(H1, inventory()) is None
    assert [host.inventory for host in hosts.list_hosts()] == [inventory()]


def test_a_host_that_falls_silent_is_down_and_still_known(hosts: Hosts) -> None:
    hosts.write_inventory(H1, inventory())
    hosts.note_alive(H1, "first", keep_s=0.02)
    deadline = time.monotonic() + 5
    while hosts.read_incarnation(H1) is not None:
        assert time.monotonic() < deadline

    assert [(host.name, host.up) for host in hosts.list_hosts()] == [(H1, False)]


def test_a_later_node_of_a_host_has_another_incarnation(hosts: Hosts) -> None:
    hosts.note_alive(H1, "first", keep_s=60)
    hosts.note_alive(H1, "second", keep_s=60)

    assert (hosts.read_incarnation(H1), hosts.read_incarnation(H2)) == ("second", None)


def test_only_its_own_node_says_that_a_host_is_gone(hosts: Hosts) -> None:
    hosts.note_alive(H1, "second", keep_s=60)

    hosts.note_gone(H1, "first")
    assert hosts.read_incarnation(H1) == "second"
    hosts.note_gone(H1, "second")
    hosts.note_gone(H1, "second")

    assert hosts.read_incarnation(H1) is None


def test_hosts_are_listed_by_name_with_what_is_claimed_of_them(hosts: Hosts, admission: Admission) -> None:
    hosts.write_inventory(H2, inventory(vcpus=2))
    hosts.write_inventory(H1, inventory(vcpus=1))
    guest = instance(ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))

    listed = hosts.list_hosts()

    assert [(host.name, host.used, host.instances) for host in listed] == [
        (H1, Resources(vcpus=1, memory_mib=64, disk_gib=1), 1),
        (H2, Resources(), 0),
    ]


def test_one_host_is_looked_up_as_it_is_listed(
    hosts: Hosts, admission: Admission, client: redis.Redis, keys: Keys
) -> None:
    for host in (H1, H2):
        hosts.write_inventory(host, inventory())
    hosts.note_alive(H1, "first", keep_s=60)
    guest = instance(host=H1, ports=())
    admission.admit_build(operation("build", guest), guest, claim(guest))
    client.hset(keys.aggregates, "east", encode(Aggregate(name="east", hosts=(H1,))))
    client.hset(keys.host(H2), "inventory", "{")

    assert (hosts.find(H1), hosts.find(H2)) == hosts.list_hosts()
    assert hosts.find(H1).aggregates
    assert hosts.look_up(HostName("h3")) is None
    with pytest.raises(Refused, match="host: 'h3': no host of that name ever reported"):
        hosts.find(HostName("h3"))


def test_a_disabled_host_says_why(hosts: Hosts, client: redis.Redis, keys: Keys) -> None:
    hosts.write_inventory(H1, inventory())
    client.hset(keys.host(H1), "disabled", "new disks")

    assert [host.disabled_reason for host in hosts.list_hosts()] == ["new disks"]


def test_who_has_reported_and_takes_no_requests_is_listed(hosts: Hosts) -> None:
    for host in (H2, H1):
        hosts.write_inventory(host, inventory())
    assert hosts.list_not_taking() == (H1, H2)

    hosts.note_taking(H1, "first", keep_s=60)
    hosts.note_alive(H2, "first", keep_s=60)

    assert hosts.list_not_taking() == (H2,)


def test_who_says_farewell_takes_no_requests_any_more(hosts: Hosts) -> None:
    hosts.write_inventory(H1, inventory())
    hosts.note_taking(H1, "second", keep_s=60)

    hosts.note_gone(H1, "first")
    assert hosts.list_not_taking() == ()
    hosts.note_gone(H1, "second")
    assert hosts.list_not_taking() == (H1,)


def test_nobody_is_listed_where_nobody_has_reported(hosts: Hosts) -> None:
    assert hosts.list_not_taking() == ()


def test_what_cannot_be_read_of_one_host_hides_no_other(client: redis.Redis, keys: Keys) -> None:
    told: list[str] = []
    hosts = Hosts(client, keys, on_unreadable=lambda problem: told.append(str(problem)))
    for name in ("h1", "h2", "h3"):
        hosts.write_inventory(HostName(name), inventory())
    client.hset(keys.host("h2"), "inventory", '{"schema":2}')
    client.set(keys.used("h3"), "no hash")

    assert [(host.name, host.inventory) for host in hosts.list_hosts()] == [
        ("h1", inventory()),
        ("h2", None),
        ("h3", None),
    ]
    assert [sentence.partition(" ")[0] for sentence in told] == ["inventory", "host"]
    assert "newer Taskvisor" in told[0]


def test_a_claim_that_cannot_be_read_hides_no_other(client: redis.Redis, keys: Keys, admission: Admission) -> None:
    told: list[str] = []
    hosts = Hosts(client, keys, on_unreadable=lambda problem: told.append(str(problem)))
    guest = instance(ports=())
    admission.admit_build(operation("build-web", guest), guest, claim(guest))
    client.hset(keys.claims("h1"), "i", "{")

    assert [instance_id for instance_id, _ in hosts.list_claims(H1)] == [guest.id]
    assert told == ["claim of i does not parse: Input data was truncated"]
