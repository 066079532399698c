"""What a host keeps of records: of instances at rest, alone with them, and nothing is ever removed for want of a record."""

import pytest

from taskvisor.model.records import Image, Instance
from tests.support.fleet import KEYS, Fleet, SimulatedHost
from virt.kept_records import without_secrets


def host_of(fleet: Fleet) -> SimulatedHost:
    (host,) = fleet.hosts.values()
    return host


def instances(fleet: Fleet) -> list[Instance | None]:
    return [copy.instance for copy in host_of(fleet).ports.disks.list_kept_instances()]


def images(fleet: Fleet) -> list[Image | None]:
    return [copy.image for copy in host_of(fleet).ports.disks.list_kept_images()]


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The guest web runs, and its record was kept."""
    fleet.build(ssh_keys=["ssh-ed25519 AAAA me"])
    assert host_of(fleet).keeper.keep() == 1
    return fleet


def test_what_is_kept_is_not_kept_again_until_it_changes(guest: Fleet) -> None:
    assert instances(guest) == [without_secrets(guest.instance())]
    assert host_of(guest).keeper.keep() == 0

    guest.ask("instance.stop", "stop", instance="web")
    assert host_of(guest).keeper.keep() == 1
    assert instances(guest) == [without_secrets(guest.instance())]


def test_while_an_operation_holds_the_instance_its_last_copy_stays(guest: Fleet) -> None:
    before = instances(guest)
    guest.begin("instance.stop", "stop", instance="web")

    assert host_of(guest).keeper.keep() == 0
    assert not host_of(guest).keeper.keep_one(guest.instance().id)
    assert instances(guest) == before

    guest.post.deliver_all()
    assert host_of(guest).keeper.keep_one(guest.instance().id)
    assert instances(guest) != before


def test_while_a_step_of_the_guest_runs_nothing_is_kept(guest: Fleet) -> None:
    keeper = host_of(guest).keeper
    with keeper.exclusion.hold(guest.instance().id) as alone:
        assert alone
        assert not keeper.keep_one(guest.instance().id)


def test_an_instance_that_is_not_known_keeps_what_was_kept_of_it(guest: Fleet) -> None:
    web, before = guest.instance(), instances(guest)
    guest.client.delete(KEYS.instance(web.id))

    host_of(guest).keeper.keep()
    assert not host_of(guest).keeper.keep_one(web.id)
    assert instances(guest) == before


def test_a_record_that_can_not_be_read_hinders_no_other(guest: Fleet) -> None:
    guest.build("other")
    guest.client.set(KEYS.instance(guest.instance().id), "{")

    assert host_of(guest).keeper.keep() == 1
    assert len(instances(guest)) == 2


def test_an_image_is_kept_where_its_file_lies_and_goes_with_it(guest: Fleet) -> None:
    guest.ask("instance.snapshot", "snap", instance="web", image="gold")
    assert images(guest) == []

    host_of(guest).keeper.keep()
    gold = guest.store.catalog.read_image("gold")
    assert gold is not None
    assert images(guest) == [gold]
    assert host_of(guest).keeper.keep() == 0

    host_of(guest).ports.disks.ensure_unpublished(gold.id)
    assert images(guest) == []


def test_a_host_without_guests_closes_no_store_nor_does_one_whose_guests_are_not_all_unknown(fleet: Fleet) -> None:
    host_of(fleet).keeper.keep()
    assert fleet.store.closing.read() is None
    fleet.build()
    host_of(fleet).keeper.keep()
    assert fleet.store.closing.read() is None


def test_a_store_that_somebody_opened_stays_open(guest: Fleet) -> None:
    guest.client.flushall()
    guest.store.closing.open(1.0)

    host_of(guest).keeper.keep()

    assert guest.store.closing.reason() is None
