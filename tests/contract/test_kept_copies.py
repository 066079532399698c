"""What Disks promise of the copies of records that lie beside disks and images (taskvisor/flow/ports.py)."""

from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.ids import InstanceId
from taskvisor.model.records import Image, Instance
from tests.contract.plans import ignore_progress
from tests.contract.test_disks import (
    GUEST,
    IMAGE,
    DisksHost,
    backend,
    base,
    host,
    with_directory,
    with_root,
    with_snapshot,
)
from tests.support import records

__all__ = ["backend", "base", "host", "with_directory", "with_root", "with_snapshot"]

WEB = replace(records.instance(), id=GUEST)
GOLD = replace(records.image(), id=IMAGE)


def instances(of: DisksHost) -> list[Instance | None]:
    return [copy.instance for copy in of.port.list_kept_instances()]


def images(of: DisksHost) -> list[Image | None]:
    return [copy.image for copy in of.port.list_kept_images()]


@pytest.fixture
def published(with_snapshot: DisksHost) -> DisksHost:
    """IMAGE is published."""
    with_snapshot.port.publish(IMAGE, ignore_progress)
    return with_snapshot


def test_a_host_without_guests_keeps_nothing(host: DisksHost) -> None:
    assert (instances(host), images(host)) == ([], [])


def test_a_copy_is_as_the_record_last_was_and_goes_with_the_directory(with_directory: DisksHost) -> None:
    with_directory.port.ensure_instance_kept(WEB)
    with_directory.port.ensure_instance_kept(WEB)
    assert instances(with_directory) == [WEB]

    with_directory.port.ensure_instance_kept(replace(WEB, metadata={"a": "b"}))
    assert instances(with_directory) == [replace(WEB, metadata={"a": "b"})]
    assert with_directory.port.list_directories() == (GUEST,)

    with_directory.port.ensure_removed(GUEST)
    assert instances(with_directory) == []


def test_keys_and_user_data_stay_out_of_it(with_directory: DisksHost) -> None:
    with_directory.port.ensure_instance_kept(replace(WEB, ssh_keys=("ssh-ed25519 AAAA",), user_data="#!/bin/sh"))

    assert instances(with_directory) == [replace(WEB, seed_known=False)]
    assert all(b"AAAA" not in path.read_bytes() for path in with_directory.root.rglob("record.json"))


def test_an_instance_without_a_directory_has_no_copy_nor_a_directory(host: DisksHost) -> None:
    host.port.ensure_instance_kept(WEB)
    assert (instances(host), host.port.list_directories()) == ([], ())


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 99, "record": {}}', b'{"schema": 1, "record": {"id": 5}}'])
def test_a_copy_that_can_not_be_read_is_told_and_hides_no_other(with_directory: DisksHost, content: bytes) -> None:
    with_directory.port.ensure_instance_kept(WEB)
    (path,) = with_directory.root.glob("instances/*/record.json")
    path.write_bytes(content)

    (copy,) = with_directory.port.list_kept_instances()
    assert (copy.instance_id, copy.instance) == (GUEST, None)
    assert copy.problem is not None
    assert str(path) in copy.problem


def test_a_copy_in_another_instances_directory_is_not_believed(with_directory: DisksHost) -> None:
    with_directory.port.ensure_instance_kept(WEB)
    (path,) = with_directory.root.glob("instances/*/record.json")
    path.write_bytes(path.read_bytes().replace(GUEST.encode(), InstanceId(GUEST[::-1]).encode()))

    (copy,) = with_directory.port.list_kept_instances()
    assert copy.instance is None
    assert "is the copy of another record" in str(copy.problem)


def test_an_images_copy_is_there_with_its_file_and_goes_with_it(published: DisksHost) -> None:
    published.port.ensure_image_kept(GOLD)
    published.port.ensure_image_kept(GOLD)
    assert images(published) == [GOLD]
    assert [facts.complete for facts in published.port.list_images()] == [True]

    published.port.ensure_unpublished(IMAGE)
    assert (images(published), published.port.list_images()) == ([], ())


def test_of_an_image_that_is_not_published_no_copy_is_kept(with_snapshot: DisksHost) -> None:
    with_snapshot.port.ensure_image_kept(GOLD)
    assert images(with_snapshot) == []


def test_a_copy_that_was_half_written_goes_with_its_image(published: DisksHost) -> None:
    published.port.ensure_image_kept(GOLD)
    half = Path(published.root / "images" / f"{IMAGE}.record.json.new")
    half.write_bytes(b"{")

    published.port.ensure_unpublished(IMAGE)
    assert published.port.list_images() == ()
