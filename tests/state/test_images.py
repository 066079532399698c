"""Image records as requests change them: with their name and their caller's answer, or not at all."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import StoreConflict, UnreadableRecord
from taskvisor.model.ids import ImageId, OperationId
from taskvisor.model.records import Deletion, Image
from taskvisor.state.codec import decode, encode
from taskvisor.state.images import ImageName, Images, StoredImage
from taskvisor.state.keys import Keys
from taskvisor.state.writing import Outcome, Writer
from tests.support.records import image

ANSWER = Outcome(key="result:r", payload="told", keep_s=60)
LATER = Outcome(key="result:r", payload="told later", keep_s=60)
FREE = ImageName(owner=None, stored=None)


@pytest.fixture
def images(client: redis.Redis, writer: Writer) -> Images:
    return Images(client, writer)


def stored(images: Images) -> StoredImage:
    found = images.read_name("gold").stored
    assert found is not None
    return found


def test_an_image_is_registered_with_its_name_and_its_callers_answer(client: redis.Redis, images: Images) -> None:
    images.register(image("gold"), ANSWER)

    assert images.read_name("gold") == ImageName(
        owner=image("gold").id, stored=StoredImage(image=image("gold"), record=encode(image("gold")))
    )
    assert (client.get("result:r"), client.ttl("result:r")) == ("told", 60)


def test_a_name_that_is_taken_or_kept_is_nobodys_to_take(client: redis.Redis, keys: Keys, images: Images) -> None:
    client.hset(keys.images, "gold", "snap-1")

    with pytest.raises(StoreConflict):
        images.register(image("gold"), ANSWER)

    assert images.read_name("gold") == ImageName(owner="snap-1", stored=None)
    assert client.get("result:r") is None


def test_a_change_is_of_the_record_that_was_seen(client: redis.Redis, images: Images) -> None:
    images.register(image("gold"), ANSWER)
    seen = stored(images)
    going = replace(image("gold"), deletion=Deletion(request_id=OperationId("r"), asked_at=1.0, sent_at=1.0))

    images.change(seen, going, LATER)

    assert (stored(images).image, client.get("result:r")) == (going, "told later")
    with pytest.raises(StoreConflict):
        images.change(seen, image("gold"), ANSWER)
    with pytest.raises(StoreConflict):
        images.forget(seen, ANSWER)
    assert (stored(images).image, client.get("result:r")) == (going, "told later")


def test_an_image_is_forgotten_with_its_name(client: redis.Redis, keys: Keys, images: Images) -> None:
    images.register(image("gold"), ANSWER)

    images.forget(stored(images), LATER)

    assert (images.read_name("gold"), client.get("result:r")) == (FREE, "told later")
    assert client.exists(keys.image("gold"), keys.images) == 0


def test_a_name_that_is_anothers_by_now_stays_its_own(client: redis.Redis, keys: Keys, images: Images) -> None:
    images.register(image("gold"), ANSWER)
    seen = stored(images)
    client.hset(keys.images, "gold", "another")

    images.forget(seen, LATER)

    assert client.hget(keys.images, "gold") == "another"


def test_a_record_that_does_not_parse_is_named(client: redis.Redis, keys: Keys, images: Images) -> None:
    client.set(keys.image("gold"), "{")

    with pytest.raises(UnreadableRecord, match="image gold does not parse"):
        images.read_name("gold")


def test_a_record_of_before_images_could_be_deleted_is_read() -> None:
    old = '{"id":"i","name":"gold","source":{"url":"file:///x"},"size_bytes":1,"virtual_bytes":2,"created_at":1.0}'

    found = decode(old, Image, "image gold")

    assert (found.id, found.deletion, found.min_disk_gib) == (ImageId("i"), None, 0)
