"""Registered images as requests change them: record, name and what the caller is told, in one transaction or not at all.

Knows nothing of files. Snapshots register their images with the journal's own write (`Writer.image`), under a name that was
kept for them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.model.errors import StoreConflict
from taskvisor.model.records import Image
from taskvisor.state.codec import decode
from taskvisor.state.connection import asking
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image, and its record as it is stored."""

    image: Image
    record: str


@dataclass(frozen=True, kw_only=True)
class ImageName:
    """What a name stands for now. `owner`: an image's id, or the operation that the name is kept for; None: it is free."""

    owner: str | None
    stored: StoredImage | None


LOOK_SCRIPT = "return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('GET', KEYS[2])}"


class Images:
    """The one writer of image records beside the journal. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys = writer.keys
        self._look = client.register_script(LOOK_SCRIPT)

    def read_name(self, name: str) -> ImageName:
        """The name's owner and the record under it, seen in one look. UnreadableRecord when there is one that does not parse."""
        with asking(f"read image {name}"):
            owner, record = self._look(keys=[self._keys.images, self._keys.image(name)], args=[name])
        if record is None:
            return ImageName(owner=owner, stored=None)
        return ImageName(owner=owner, stored=StoredImage(image=decode(record, Image, f"image {name}"), record=record))

    def register(self, image: Image, answer: Outcome) -> None:
        """The image has its name, and its caller is told. StoreConflict when the name is not free."""
        tx = Transaction()
        tx.require_absent(self._keys.images, image.name, StoreConflict)
        self._writer.image(tx, image)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"register image {image.name}")

    def change(self, seen: StoredImage, image: Image, answer: Outcome | None = None) -> None:
        """The record says something else of the same image. StoreConflict when it moved since it was seen."""
        tx = self._unmoved(seen)
        self._writer.image(tx, image)
        if answer is not None:
            self._writer.outcome(tx, answer)
        tx.run(self._client, f"write image {image.name}")

    def forget(self, seen: StoredImage, answer: Outcome) -> None:
        """Record and name are gone, and whoever asked for that is told. StoreConflict when it moved since it was seen."""
        tx = self._unmoved(seen)
        self._writer.forget_image(tx, seen.image)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"forget image {seen.image.name}")

    def _unmoved(self, seen: StoredImage) -> Transaction:
        tx = Transaction()
        tx.require_same(self._keys.image(seen.image.name), seen.record, StoreConflict)
        return tx
