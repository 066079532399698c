"""Writing what hosts told: all of it or nothing, over nothing that is there; and a store that is closed."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import Refused, StoreConflict, UnreadableRecord
from taskvisor.model.ids import FloatingId, HostName, PortId, SecurityGroupId
from taskvisor.model.network import FloatingAddress, SecurityGroup
from taskvisor.model.rebuilding import BoundFloating, Rebuild, Reserved
from taskvisor.model.records import Claim, Resources
from taskvisor.model.volume import VolumeAttachment
from taskvisor.state.addresses import Addresses
from taskvisor.state.catalog import Catalog
from taskvisor.state.closing import Closing
from taskvisor.state.keys import Keys
from taskvisor.state.rebuilding import Rebuilding
from taskvisor.state.security_groups import SecurityGroups
from taskvisor.state.writing import Writer
from tests.support.records import HOST, NETWORK, image, instance

GROUP = SecurityGroup(id=SecurityGroupId("g"), name="web")
GROUPED = replace(instance().ports[0], security_groups=(GROUP.id,), address6="fd00::5")
WEB = instance(ports=(GROUPED,), volumes=(VolumeAttachment(source="rbd://v/a", serial="a"),))
SIZE = Resources(vcpus=1, memory_mib=64, disk_gib=1, others={"gpu": 2})
FLOATING = FloatingAddress(id=FloatingId("f"), address="203.0.113.7", port_id=GROUPED.id)
RESERVED = Reserved(
    network_id=NETWORK.id, port_id=PortId("of-another"), mac="52:54:00:00:00:09", addresses=("10.152.0.9", "fd00::9")
)
WHOLE = Rebuild(
    networks=(NETWORK,),
    groups=(GROUP,),
    floating=(BoundFloating(floating=FLOATING, instance_id=WEB.id),),
    instances=(WEB,),
    claims=(Claim(host=HOST, instance_id=WEB.id, resources=SIZE, limits=SIZE),),
    images=(image(),),
    reserved=(RESERVED,),
)


@pytest.fixture
def rebuilding(client: redis.Redis, writer: Writer) -> Rebuilding:
    return Rebuilding(client, writer)


@pytest.fixture
def closing(client: redis.Redis, keys: Keys) -> Closing:
    return Closing(client, keys)


def dump(client: redis.Redis) -> dict[str, bytes]:
    return {str(key): client.dump(key) for key in client.scan_iter("*")}  # type: ignore[misc]


def test_everything_is_written_and_the_store_is_open(
    rebuilding: Rebuilding, closing: Closing, catalog: Catalog, client: redis.Redis, keys: Keys
) -> None:
    closing.close("it was flushed", 1.0)

    rebuilding.write(WHOLE, 2.0)

    assert closing.reason() is None
    assert (catalog.list_instances(HOST), catalog.list_networks(), catalog.list_images()) == (
        (WEB,),
        (NETWORK,),
        (image(),),
    )
    assert SecurityGroups(client, keys).list() == (GROUP,)
    assert client.hgetall(keys.used(HOST)) == {"vcpus": "1", "memory_mib": "64", "disk_gib": "1", "gpu": "2"}
    assert client.hgetall(keys.volume("rbd://v/a")) == {WEB.id: "alone"}
    present = rebuilding.read_present(3.0)
    assert present.floating == {FLOATING.id: FLOATING}
    assert present.addresses == {
        (NETWORK.id, GROUPED.address): GROUPED.id,
        (NETWORK.id, "fd00::5"): GROUPED.id,
        (NETWORK.id, "10.152.0.9"): RESERVED.port_id,
        (NETWORK.id, "fd00::9"): RESERVED.port_id,
    }
    assert not present.is_empty
    assert present.instances == frozenset({WEB.id})
    assert dict(present.images) == {"gold": image().id}


def test_addresses_of_guests_that_are_not_recorded_are_given_to_nobody(
    rebuilding: Rebuilding, client: redis.Redis, keys: Keys
) -> None:
    rebuilding.write(WHOLE, 2.0)
    addresses = Addresses(client, keys)

    with pytest.raises(Refused, match="belongs to port of-another"):
        addresses.allocate(NETWORK, PortId("new"), mac="52:54:00:00:00:77", wanted="10.152.0.9", now=3.0)
    with pytest.raises(Refused, match="belongs to port of-another"):
        addresses.allocate(NETWORK, PortId("new"), mac=RESERVED.mac, wanted=None, now=3.0)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("names", "web"),
        ("networks", "default"),
        ("groups", "g"),
        (f"claims:{HOST}", WEB.id),
        ("images", "gold"),
        (f"addresses:{NETWORK.id}", GROUPED.address),
        (f"addresses6:{NETWORK.id}", "fd00::9"),
        ("macs", f"{NETWORK.id} {GROUPED.mac}"),
        ("floating:bound", "f"),
        ("floating:ports", GROUPED.id),
        (f"lease:{WEB.id}", "op"),
    ],
)
def test_nothing_is_written_over_what_came_to_be_there_meanwhile(
    rebuilding: Rebuilding, closing: Closing, client: redis.Redis, keys: Keys, key: str, field: str
) -> None:
    closing.close("it was flushed", 1.0)
    client.hset(f"{keys.prefix}{key}", field, "somebody's")
    client.set(keys.schema, "1")
    before = dump(client)

    with pytest.raises(StoreConflict, match="came to be there meanwhile, so nothing was written; run it again"):
        rebuilding.write(WHOLE, 2.0)

    assert dump(client) == before


def test_a_volume_that_another_holds_is_not_taken_from_it(
    rebuilding: Rebuilding, client: redis.Redis, keys: Keys
) -> None:
    client.hset(keys.volume("rbd://v/a"), "other", "alone")

    with pytest.raises(Refused, match="rbd://v/a is held by instance other"):
        rebuilding.write(WHOLE, 2.0)

    assert client.smembers(keys.instances) == set()


def test_addresses_that_were_kept_for_a_guest_are_its_own_when_it_comes_back(
    rebuilding: Rebuilding, catalog: Catalog
) -> None:
    kept = Reserved(network_id=NETWORK.id, port_id=GROUPED.id, mac=GROUPED.mac, addresses=GROUPED.addresses)
    rebuilding.write(replace(WHOLE, instances=(), claims=(), floating=(), reserved=(kept,)), 2.0)

    rebuilding.write(Rebuild(instances=(WEB,), claims=WHOLE.claims), 3.0)

    assert catalog.list_instances() == (WEB,)


def test_what_can_not_be_read_is_not_taken_for_missing(rebuilding: Rebuilding, client: redis.Redis, keys: Keys) -> None:
    client.sadd(keys.instances, "broken")
    client.set(keys.instance("broken"), "{")

    with pytest.raises(UnreadableRecord, match="the record instance:broken can't be read"):
        rebuilding.read_present(1.0)


def test_hosts_are_heard_of_before_they_have_reported(rebuilding: Rebuilding, client: redis.Redis, keys: Keys) -> None:
    client.set(keys.taking("h2"), "i")
    client.set(keys.taking("h1"), "i")
    assert rebuilding.list_taking() == (HostName("h1"), HostName("h2"))


def test_a_store_of_which_nothing_was_decided_is_open(closing: Closing) -> None:
    assert (closing.read(), closing.reason()) == (None, None)


def test_a_store_is_closed_for_a_reason_until_it_is_opened(closing: Closing) -> None:
    closing.close("it was flushed", 1.0)
    assert closing.reason() == "it was flushed"
    closing.open(2.0)
    assert closing.reason() is None


def test_only_a_store_without_records_and_without_anybodys_word_is_closed_as_flushed(
    closing: Closing, client: redis.Redis, keys: Keys
) -> None:
    client.sadd(keys.instances, "i")
    assert not closing.close_if_flushed("first", 1.0)
    client.delete(keys.instances)
    client.zadd(keys.unsettled, {"o": 1.0})
    assert not closing.close_if_flushed("second", 1.0)
    client.delete(keys.unsettled)

    assert closing.close_if_flushed("third", 1.0)
    assert not closing.close_if_flushed("fourth", 1.0)
    assert closing.reason() == "third"
    closing.open(2.0)
    assert not closing.close_if_flushed("fifth", 3.0)
