"""Copies of records beside what they are about, so that they can be written anew when every store is lost.

    <root>/instances/<instance id>/record.json    the instance's; it goes with the directory
    <root>/images/<image id>.record.json          a snapshot's; it goes with the image

Keys and user data stay out: they are in the seed only, and a record without them says so (`Instance.seed_known`). Real and
simulated hosts keep them in the same way. Must never know whether a record is true: whoever calls has just read it.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from taskvisor.model.errors import CannotAsk, Refused, UnreadableRecord
from taskvisor.model.holdings import ImageCopy, InstanceCopy
from taskvisor.model.ids import ImageId, InstanceId
from taskvisor.model.records import Image, Instance
from virt.durable import ensure_no_file, write_durably
from virt.images.names import PUBLISHED
from virt.owned_directories import UUID

RECORD_FILE: Final = "record.json"
IMAGE_RECORD: Final = "record.json"
"""What follows an image's id in the name of its copy."""
SCHEMA: Final = 1
"""Of a copy. A reader refuses, in words, what a newer version wrote."""

R = TypeVar("R")


class _Copy(msgspec.Struct, kw_only=True):
    """What every version can read of a copy."""

    schema: int
    record: msgspec.Raw


class KeptRecords:
    """The copies of one host, below its state directory."""

    def __init__(self, root: Path) -> None:
        self._instances = root / "instances"
        self._images = root / "images"

    def ensure_instance_kept(self, instance: Instance) -> None:
        """The instance's directory has a copy of its record; of no effect where it has none. CannotAsk when that can't be."""
        if not UUID.fullmatch(instance.id):
            raise Refused(f"{instance.id!r} is no instance id, so it names no directory")
        path = self._instances / instance.id / RECORD_FILE
        if path.parent.is_dir() and not path.parent.is_symlink():
            _ensure_written(path, without_secrets(instance))

    def ensure_image_kept(self, image: Image) -> None:
        """A copy of the image's record lies beside its file; of no effect where no file of it is published."""
        if not UUID.fullmatch(image.id) or not self._is_published(image.id):
            return
        path = self._image_copy(image.id)
        _ensure_written(path, image)
        if not self._is_published(image.id):  # it was removed meanwhile: nothing of it may be left
            ensure_no_file(path)

    def ensure_image_forgotten(self, image_id: ImageId) -> None:
        """No copy of the image's record is left, whole or half written."""
        path = self._image_copy(image_id)
        for file in (path, path.with_name(f"{path.name}.new")):
            ensure_no_file(file)

    def list_instances(self) -> tuple[InstanceCopy, ...]:
        """The copies in instances' directories, in the order of ids. CannotAsk when they can't be listed."""
        return tuple(
            _instance_copy(InstanceId(path.parent.name), path)
            for path in _existing(self._instances, f"*/{RECORD_FILE}")
            if UUID.fullmatch(path.parent.name)
        )

    def list_images(self) -> tuple[ImageCopy, ...]:
        """The copies beside images, in the order of ids. CannotAsk when they can't be listed."""
        named = (
            (path.name.removesuffix(f".{IMAGE_RECORD}"), path) for path in _existing(self._images, f"*.{IMAGE_RECORD}")
        )
        return tuple(_image_copy(ImageId(image_id), path) for image_id, path in named if UUID.fullmatch(image_id))

    def _image_copy(self, image_id: ImageId) -> Path:
        return self._images / f"{image_id}.{IMAGE_RECORD}"

    def _is_published(self, image_id: ImageId) -> bool:
        return any((self._images / f"{image_id}.{suffix}").exists() for suffix in PUBLISHED)


def without_secrets(instance: Instance) -> Instance:
    """The record as it may lie about: without keys and user data, and saying so where there were any."""
    secret = bool(instance.ssh_keys) or instance.user_data is not None
    return replace(instance, ssh_keys=(), user_data=None, seed_known=instance.seed_known and not secret)


def _existing(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        os.stat(directory)
        yield from sorted(directory.glob(pattern))
    except FileNotFoundError:
        return  # nothing was ever made here
    except OSError as error:
        raise CannotAsk(f"cannot look for copies of records below {directory}: {error.strerror}") from error


def _ensure_written(path: Path, record: Instance | Image) -> None:
    content = msgspec.json.encode({"schema": SCHEMA, "record": record})
    try:
        if not (path.exists() and path.read_bytes() == content):
            write_durably(path, content, mode=0o600)
    except FileNotFoundError:
        return  # what it is about has gone meanwhile
    except OSError as error:
        raise CannotAsk(f"cannot write {path}: {error.strerror}") from error


def _instance_copy(instance_id: InstanceId, path: Path) -> InstanceCopy:
    try:
        found = _read(path, Instance)
    except UnreadableRecord as problem:
        return InstanceCopy(instance_id=instance_id, instance=None, problem=str(problem))
    if found.id != instance_id:
        problem_text = f"{path} is the copy of another record, of instance {found.id}"
        return InstanceCopy(instance_id=instance_id, instance=None, problem=problem_text)
    return InstanceCopy(instance_id=instance_id, instance=found)


def _image_copy(image_id: ImageId, path: Path) -> ImageCopy:
    try:
        found = _read(path, Image)
    except UnreadableRecord as problem:
        return ImageCopy(image_id=image_id, image=None, problem=str(problem))
    if found.id != image_id:
        problem_text = f"{path} is the copy of another record, of image {found.id}"
        return ImageCopy(image_id=image_id, image=None, problem=problem_text)
    return ImageCopy(image_id=image_id, image=found)


def _read(path: Path, kind: type[R]) -> R:
    """The record; UnreadableRecord says why it can't be read."""
    try:
        copy = msgspec.json.decode(path.read_bytes(), type=_Copy)
        if copy.schema > SCHEMA:
            raise UnreadableRecord(f"{path} has schema {copy.schema}, written by a newer version; upgrade this host")
        return msgspec.json.decode(copy.record, type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UnreadableRecord(f"{path} can't be read: {error}") from error
