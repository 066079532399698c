"""The read side, as people and commands see it."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.change import Change, LeaseMove
from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.ids import HostName, ImageId, NetworkId, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase
from taskvisor.state.admission import Admission
from taskvisor.state.catalog import Catalog
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from tests.support.records import NETWORK, claim, image, instance, network, operation


def admit(admission: Admission, name: str, operation_id: str, at: float = 1.0) -> Operation:
    guest = instance(name, operation_id, ports=())
    build = operation(operation_id, guest, created_at=at, updated_at=at)
    admission.admit_build(build, guest, claim(guest))
    return build


def test_instances_are_listed_by_name(admission: Admission, catalog: Catalog) -> None:
    for name in ("web", "db", "cache"):
        admit(admission, name, f"build-{name}")

    assert [guest.name for guest in catalog.list_instances()] == ["cache", "db", "web"]
    assert [guest.name for guest in catalog.list_instances(HostName("h1"))] == ["cache", "db", "web"]
    assert catalog.list_instances(HostName("h2")) == ()


def test_more_records_than_one_batch_are_all_read(admission: Admission, catalog: Catalog) -> None:
    for number in range(501):
        admit(admission, f"web{number:03}", f"build-{number}")

    assert len(catalog.list_instances()) == 501


def test_an_instance_has_a_name_and_an_id(admission: Admission, catalog: Catalog) -> None:
    build = admit(admission, "web", "build-web")

    assert catalog.find_instance("web") == catalog.find_instance(build.instance_id) == instance(ports=())
    assert catalog.find_instance("another") is None


def test_operations_are_listed_newest_first(admission: Admission, catalog: Catalog) -> None:
    for at in (3.0, 1.0, 2.0):
        admit(admission, f"web{at}", f"build-{at}", at)

    assert [op.id for op in catalog.list_operations()] == ["build-3.0", "build-2.0", "build-1.0"]
    assert [op.id for op in catalog.list_operations(limit=1)] == ["build-3.0"]


def test_an_operation_is_found_by_the_beginning_of_its_id(admission: Admission, catalog: Catalog) -> None:
    first, second = admit(admission, "web", "build-web"), admit(admission, "webs", "build-web-2")

    assert catalog.find_operation("build-web") == first
    assert catalog.find_operation("build-web-") == second
    with pytest.raises(Refused, match="operation: 'buil' fits 2 operations; give more of the id"):
        catalog.find_operation("buil")
    with pytest.raises(Refused, match="operation: 'nope': no such operation is known"):
        catalog.find_operation("nope")


def test_the_longest_without_progress_come_first(admission: Admission, catalog: Catalog, journal: RedisJournal) -> None:
    old, young = admit(admission, "a", "op-a", 1.0), admit(admission, "b", "op-b", 2.0)
    journal.commit(Change(before=old, after=replace(old, revision=1, updated_at=3.0), lease=LeaseMove.WATCH))

    assert catalog.list_unsettled(before=2.5) == (young.id,)
    assert catalog.list_unsettled(before=3.0) == (young.id, old.id)
    assert catalog.list_unsettled(before=3.0, limit=1) == (young.id,)


def test_operations_whose_records_have_expired_are_listed_no_more(
    client: redis.Redis, keys: Keys, admission: Admission, catalog: Catalog, journal: RedisJournal
) -> None:
    ended = admit(admission, "a", "op-a", 1.0)
    journal.commit(Change(before=ended, after=replace(ended, revision=1, phase=Phase.FAILED)))
    kept = admit(admission, "b", "op-b", 2.0)
    client.delete(keys.operation(ended.id))  # as time does

    assert catalog.list_operations() == (kept,)
    assert (catalog.forget_expired(), catalog.forget_expired()) == (1, 0)

    assert client.zrange(keys.operations, 0, -1) == [kept.id]


def test_a_network_that_is_there_stays_as_it_is(catalog: Catalog, networks: Networks) -> None:
    first = networks.ensure(network("lab", "10.0.0.0/24"))

    assert networks.ensure(network("lab", "10.1.0.0/24")) == first
    assert catalog.find_network("lab") == catalog.read_network(first.id) == first
    assert catalog.list_networks() == (first,)


def test_an_unknown_network_is_refused_with_those_that_there_are(catalog: Catalog, networks: Networks) -> None:
    with pytest.raises(Refused, match="networks: 'lab': there is no such network; known: none"):
        catalog.find_network("lab")
    networks.ensure(NETWORK)

    with pytest.raises(Refused, match="networks: 'lab': there is no such network; known: default"):
        catalog.find_network("lab")
    with pytest.raises(Refused, match="network: nope: there is no such network"):
        catalog.read_network(NetworkId("nope"))


def test_an_image_is_found_by_its_name_and_by_its_id(
    admission: Admission, catalog: Catalog, journal: RedisJournal
) -> None:
    build = admit(admission, "web", "build-web")
    journal.commit(Change(before=build, after=replace(build, revision=1), images=(image("gold"),)))

    assert catalog.find_image("gold") == catalog.find_image(image("gold").id) == image("gold")
    assert catalog.find_image("silver") is None


def test_a_name_that_looks_like_another_images_id_is_a_name(
    admission: Admission, catalog: Catalog, journal: RedisJournal
) -> None:
    build, other = admit(admission, "web", "build-web"), replace(image(image("gold").id), id=ImageId("other"))
    journal.commit(Change(before=build, after=replace(build, revision=1), images=(image("gold"), other)))

    assert catalog.find_image(image("gold").id) == other


def test_a_name_that_is_only_reserved_is_no_image(client: redis.Redis, keys: Keys, catalog: Catalog) -> None:
    client.hset(keys.images, "gold", "snap-1")

    assert (catalog.read_image("gold"), catalog.list_images()) == (None, ())


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"id":"x"}'])
def test_a_record_that_does_not_parse_is_named(client: redis.Redis, keys: Keys, catalog: Catalog, text: str) -> None:
    client.set(keys.instance("i"), text)
    client.hset(keys.names, "web", "i")

    with pytest.raises(UnreadableRecord, match="instance i does not parse"):
        catalog.find_instance("web")


def test_nobody_knows_what_was_never_written(catalog: Catalog) -> None:
    assert catalog.read_operation(OperationId("x")) is None
    assert catalog.list_operations() == ()
    assert catalog.list_instances() == ()
    assert catalog.list_unsettled_on(HostName("h1")) == ()
    assert catalog.forget_expired() == 0


UNREADABLE: dict[str, str | bytes] = {
    "cut off": '{"id":',
    "of a newer schema": '{"schema":2}',
    "of a newer version": '{"vm_state":"hibernating","phase":"paused","kind":"vxlan"}',
    "no text": b"\xff",
}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def listing(client: redis.Redis, keys: Keys, told: list[str]) -> Catalog:
    """A catalog that notes what it leaves out."""
    return Catalog(client, keys, on_unreadable=lambda problem: told.append(str(problem)))


@pytest.mark.parametrize("kind", UNREADABLE)
def test_one_unreadable_record_hides_no_other(
    client: redis.Redis,
    keys: Keys,
    admission: Admission,
    journal: RedisJournal,
    listing: Catalog,
    networks: Networks,
    told: list[str],
    kind: str,
) -> None:
    build = admit(admission, "web", "build-web")
    journal.commit(Change(before=build, after=replace(build, revision=1), images=(image("gold"),)))
    networks.ensure(NETWORK)
    client.sadd(keys.instances, "i")
    client.set(keys.instance("i"), UNREADABLE[kind])
    client.zadd(keys.operations, {"op": 2.0})
    client.hset(keys.operation("op"), "doc", UNREADABLE[kind])
    client.hset(keys.images, "lost", "x")
    client.set(keys.image("lost"), UNREADABLE[kind])
    client.hset(keys.networks, "lab", "n")
    client.set(keys.network("n"), UNREADABLE[kind])

    assert [guest.name for guest in listing.list_instances()] == ["web"]
    assert [op.id for op in listing.list_operations()] == ["build-web"]
    assert listing.list_images() == (image("gold"),)
    assert listing.list_networks() == (NETWORK,)
    assert [sentence.split(" ")[:2] for sentence in told] == [
        ["instance", "i"],
        ["operation", "op"],
        ["image", "lost"],
        ["network", "n"],
    ]


def test_a_key_of_another_type_hides_no_operation(
    client: redis.Redis, keys: Keys, admission: Admission, listing: Catalog, told: list[str]
) -> None:
    admit(admission, "web", "build-web")
    client.zadd(keys.operations, {"op": 2.0})
    client.set(keys.operation("op"), "no hash")

    assert [op.id for op in listing.list_operations()] == ["build-web"]
    assert len(told) == 1
    assert told[0].startswith("operation op can't be read: ")


def test_instances_are_read_a_page_at_a_time_by_name(catalog: Catalog, admission: Admission) -> None:
    names = [f"guest-{number}" for number in range(7)]
    for name in reversed(names):
        guest = instance(name, f"build-{name}", ports=())
        admission.admit_build(operation(f"build-{name}", guest), guest, claim(guest))
    read: list[str] = []

    while page := catalog.page_instances(after=read[-1] if read else "", limit=3):
        read += [guest.name for guest in page]

    assert read == names
    assert catalog.page_instances(after="guest-3", limit=1)[0].name == "guest-4"
