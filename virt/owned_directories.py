"""Directories on this host that bear their owner's name, so that whose they are can be told with every store lost.

    <root>/<instance id>/owner.json     whose it is
    <root>/<instance id>.new            being made      } never the final name: what bears that is complete,
    <root>/<instance id>.deleted        being removed   } and ours only if its owner.json says so

Knows nothing of what is in them.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.ids import InstanceId
from virt.durable import ensure_directory, rename_durably, sync_directory, write_durably

OWNER_FILE: Final = "owner.json"
OWNER_SCHEMA: Final = 1
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The content of owner.json."""

    instance_id: InstanceId
    schema: int = OWNER_SCHEMA


class OwnedDirectories:
    """The instances' directories below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, instance_id: InstanceId) -> Path:
        """Where the directory of that instance is, or would be. Refused for what is not a UUID: it becomes a path."""
        if not UUID.fullmatch(instance_id):
            raise Refused(f"{instance_id!r} is no instance id, so it names no directory")
        return self.root / instance_id

    def ensure(self, instance_id: InstanceId) -> Path:
        """The directory exists and is the instance's. Contradiction when something else bears its name."""
        directory = self.path(instance_id)
        if self.read_exists(instance_id):
            return directory
        ensure_directory(self.root, mode=0o711)  # QEMU's user walks through it, and need not list it
        with self._alone():
            return directory if self.read_exists(instance_id) else self._make(directory, instance_id)

    def _make(self, directory: Path, instance_id: InstanceId) -> Path:
        fresh = directory.with_name(f"{instance_id}.new")
        _remove_tree(fresh)
        fresh.mkdir()
        fresh.chmod(0o711)
        write_durably(fresh / OWNER_FILE, msgspec.json.encode(Owner(instance_id=instance_id)))
        rename_durably(fresh, directory)
        return directory

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """Nothing of the instance is left here, nor of an earlier removal that was interrupted.

        Contradiction, and nothing is touched, when the directory is another's.
        """
        directory = self.path(instance_id)
        if not self.root.exists():
            return
        with self._alone():
            present = self.read_exists(instance_id)
            doomed = directory.with_name(f"{instance_id}.deleted")
            _remove_tree(doomed)
            if present:
                rename_durably(directory, doomed)  # from here on nobody takes it for whole
                _remove_tree(doomed)
            _remove_tree(directory.with_name(f"{instance_id}.new"))

    def ensure_moved(self, instance_id: InstanceId, target: Path) -> None:
        """The directory, if there is one, lies at `target`, whole. Contradiction, and nothing is touched, when it is another's.

        What lies at `target` already stays there; then the directory is one that was made since, and Refused says so.
        """
        if not self.root.exists():
            return
        with self._alone():
            if not self.read_exists(instance_id):
                return
            if target.exists():
                raise Refused(f"{target} is there already; {self.path(instance_id)} was made since, and is left alone")
            ensure_directory(target.parent, mode=0o700)
            rename_durably(self.path(instance_id), target)
            sync_directory(self.root)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes or removes directories: flock(2) on the root, which dies with its holder.

        Without it, a removal could take owner.json out of a directory just before another process gives it its name.
        """
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read_exists(self, instance_id: InstanceId) -> bool:
        """True when the directory is there and the instance's; Contradiction when it is there and not."""
        directory = self.path(instance_id)
        if not directory.is_symlink() and not directory.exists():
            return False
        owner = _read_owner(directory)
        if owner is None:
            raise Contradiction(f"{directory} has no readable {OWNER_FILE}, so it is not known to be ours; left alone")
        if owner.instance_id != instance_id:
            raise Contradiction(f"{directory} belongs to instance {owner.instance_id}; left alone")
        return True

    def list_all(self) -> tuple[InstanceId, ...]:
        """The instances that have a directory here, whole or half removed."""
        if not self.root.exists():
            return ()
        return tuple(sorted({owner for path in self.root.iterdir() if (owner := self._owner_of(path)) is not None}))

    def _owner_of(self, path: Path) -> InstanceId | None:
        """Of a directory by its owner.json; of one half removed, which may have lost it, by its name."""
        if path.suffix == ".deleted" and UUID.fullmatch(path.stem):
            return InstanceId(path.stem)
        owner = _read_owner(path)
        return owner.instance_id if owner is not None and owner.instance_id == path.name else None


def _read_owner(directory: Path) -> Owner | None:
    """None when there is no owner.json, or none that this version can read."""
    if directory.is_symlink():
        return None
    try:
        owner = msgspec.json.decode((directory / OWNER_FILE).read_bytes(), type=Owner)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    return owner if owner.schema == OWNER_SCHEMA else None


def _remove_tree(path: Path) -> None:
    """Neither the directory nor anything in it is left, also after a power cut."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    sync_directory(path.parent)
