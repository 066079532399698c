"""One read of everything that is recorded."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, NetworkId, OperationId, PortId
from taskvisor.model.network import member_for
from taskvisor.model.records import Resources
from taskvisor.model.states import Phase
from taskvisor.model.survey import AllocationNote, GroupedPort, LeaseRecord, QueueDepth
from taskvisor.state.codec import encode
from taskvisor.state.connection import open_redis
from taskvisor.state.keys import Keys
from taskvisor.state.survey import BATCH, Survey
from tests.fixtures.redis_servers import OpenRedisServer
from tests.support import records
from tests.support.fixtures import fleet, memory_dir
from tests.support.fleet import KEYS, Fleet

__all__ = ["fleet", "memory_dir"]

H1 = HostName("h1")


def test_an_empty_store_has_no_records(redis_url: str) -> None:
    with open_redis(redis_url, timeout_s=5) as client:
        read = Survey(client, Keys("other:")).read(7.0)
    assert (read.read_at, read.instances, read.operations, read.hosts, read.unreadable) == (7.0, {}, {}, {}, {})
    assert read.queues == {"compute": QueueDepth(waiting=0, in_flight={}, dead=0)}


def test_everything_that_belongs_to_a_guest_is_read(fleet: Fleet) -> None:
    fleet.build("web")
    reboot = fleet.begin("instance.reboot", "reboot-web", instance="web")
    web, now = fleet.instance(), fleet.clock.now()
    (port,) = web.ports
    fleet.client.zadd(KEYS.allocating, {f"{port.network_id} p 52:54:00:00:00:09": 5.0})
    fleet.client.rpush("host.h1", "message", "message")
    fleet.client.rpush("compute.inflight.h1", "message")
    fleet.client.rpush("host.h1.control.dead", "message")

    read = Survey(fleet.client, KEYS).read(now)

    assert read.instances == {web.id: web}
    assert read.operations == {reboot.id: fleet.read("reboot-web")}
    assert read.leases == {web.id: LeaseRecord(operation_id=reboot.id, token=0)}
    assert read.names == {"web": web.id}
    host = read.hosts[H1]
    assert host.claims == {web.id: Resources(vcpus=1, memory_mib=64, disk_gib=1)}
    assert host.used == Resources(vcpus=1, memory_mib=64, disk_gib=1)
    assert host.incarnation == "first"
    assert host.inventory is not None
    network = read.networks[port.network_id]
    assert (network.network, network.ports) == (fleet.store.find_network("default"), {port.id: port.address})
    assert network.addresses == {port.address: port.id}
    assert (network.members, network.ports6) == ({port.id: member_for(port, H1)}, {})
    assert read.nics == {web.id: {port.id: (port.network_id, *port.security_groups)}}
    (group,) = port.security_groups
    assert read.grouped == {group: {port.id: GroupedPort(network_id=port.network_id, member=member_for(port, H1))}}
    assert read.macs == {(port.network_id, port.mac): port.id}
    assert read.allocating == (
        AllocationNote(
            network_id=NetworkId(port.network_id), port_id=PortId("p"), mac="52:54:00:00:00:09", noted_at=5.0
        ),
    )
    assert (read.waiting_in("host.h1"), read.queues["compute"].in_flight[H1]) == (2, 1)
    assert read.queues["host.h1.control"].dead == 1
    assert read.indexes.instances_on == {H1: frozenset({web.id})}
    assert read.indexes.unsettled == read.indexes.operations == frozenset({reboot.id})
    assert read.unreadable == {}


def test_operations_that_have_ended_are_not_read_but_stuck_ones_are(fleet: Fleet) -> None:
    fleet.build("web")
    fleet.build("bad", image="/nosuch")
    stuck = replace(records.operation("stuck", fleet.instance()), phase=Phase.STUCK)
    fleet.client.hset(KEYS.operation("stuck"), "doc", encode(stuck))
    read = Survey(fleet.client, KEYS).read(1.0)
    assert read.operations == {OperationId("stuck"): stuck}


def test_more_records_than_one_batch_are_all_read(fleet: Fleet) -> None:
    names = [f"guest-{number}" for number in range(BATCH + 3)]
    for name in names:
        made = records.instance(name, f"build-{name}", ports=())
        fleet.client.set(KEYS.instance(made.id), encode(made))
    read = Survey(fleet.client, KEYS).read(1.0)
    assert {instance.name for instance in read.instances.values()} == set(names)


KEYS_OF_EVERY_KIND = (
    "names instances ops:unsettled ops:stuck images networks macs allocating hosts host:h1 lease:x instance:x op:x"
    " instances:host:h1 ops:host:h1 addresses:x network:x ports:x addresses6:x ports6:x members:x grouped:x nics:x"
)


@pytest.mark.parametrize("key", KEYS_OF_EVERY_KIND.split(" "))
def test_a_key_of_another_type_is_noted_and_ends_nothing(fleet: Fleet, key: str) -> None:
    fleet.client.delete(KEYS.prefix + key)
    fleet.client.lpush(KEYS.prefix + key, "one")
    assert list(Survey(fleet.client, KEYS).read(1.0).unreadable) == [key]


@pytest.mark.parametrize(
    ("key", "field"),
    [("used:h1", "vcpus"), ("host:h1", "power_synced_at"), ("host:h1", "inventory"), ("lease:x", "token")],
)
def test_a_field_that_is_no_number_is_noted_and_ends_nothing(fleet: Fleet, key: str, field: str) -> None:
    fleet.client.hset(KEYS.prefix + key, field, "much")
    assert list(Survey(fleet.client, KEYS).read(1.0).unreadable) == [key]


def test_a_queue_of_another_type_is_noted_and_ends_nothing(fleet: Fleet) -> None:
    fleet.client.set("host.h1", "a message")
    read = Survey(fleet.client, KEYS).read(1.0)
    assert (list(read.unreadable), read.waiting_in("host.h1")) == (["host.h1"], 0)


def test_a_redis_that_is_gone_is_not_an_empty_one(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    with open_redis(server.url(), timeout_s=0.5) as client:
        server.kill()
        with pytest.raises(CannotAsk):
            Survey(client, KEYS).read(1.0)


def test_keys_of_others_are_not_looked_at(fleet: Fleet, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("celery-task-meta-x", "{}")
        client.set("another:instance:x", "{")
    read = Survey(fleet.client, KEYS).read(1.0)
    assert (read.instances, read.unreadable) == ({}, {})
