"""Volumes that lie on this host: files and block devices. There is nothing to connect, and much to be sure of first."""

import errno
import os
import stat
from pathlib import Path

from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.plan import DiskStorage
from taskvisor.model.volume import VolumeSource
from virt.volumes.connector import Connector, Place


class FileConnector(Connector):
    """A file of the host. No part of its path may be a link: what is allowed is told by the path. Never below `closed`, where
    guests' own disks lie, whatever the operator allows.
    """

    def __init__(self, closed: Path) -> None:
        self._closed = closed

    def place_for(self, source: VolumeSource) -> Place:
        return Place(path=source.path, storage=DiskStorage.FILE)

    def ensure_connected(self, source: VolumeSource) -> None:
        if os.path.realpath(source.path) != source.path:
            raise Refused(f"volume {source.url}: its path leads through a link; name the file by its own path")
        if Path(source.path).is_relative_to(os.path.realpath(self._closed)):
            raise Refused(f"volume {source.url}: lies in {self._closed}, which is guests' own; keep volumes elsewhere")
        require_file(Path(source.path), source)

    def ensure_disconnected(self, source: VolumeSource) -> None:
        """It lies where it lay."""


class BlockConnector(Connector):
    """A block device of the host, mostly by a link that udev made: those names stay, /dev/sdb does not."""

    def place_for(self, source: VolumeSource) -> Place:
        return Place(path=source.path, storage=DiskStorage.BLOCK)

    def ensure_connected(self, source: VolumeSource) -> None:
        require_block_device(Path(source.path), source)

    def ensure_disconnected(self, source: VolumeSource) -> None:
        """It stays where it is."""


def require_file(path: Path, source: VolumeSource) -> None:
    """The path is that of a file proper. Refused when it is not; CannotAsk when that can't be told."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"volume {source.url}: there is no such file; make it first") from error
    except OSError as error:
        raise CannotAsk(f"cannot look at volume {source.url}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise Refused(f"volume {source.url}: is no regular file; block:// is for devices")


def require_block_device(path: Path, source: VolumeSource) -> None:
    """The path leads to a block device that the host itself does not use: mounted, swapped to, or part of another device.

    open(2): O_EXCL without O_CREAT fails with EBUSY for a block device that is in use by the system.
    """
    try:
        is_device = stat.S_ISBLK(path.stat().st_mode)
        if is_device:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"volume {source.url}: there is no such device") from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Refused(
                f"volume {source.url}: the host itself uses the device (mounted, swap, or part of another); see lsblk"
            ) from error
        raise CannotAsk(f"cannot look at volume {source.url}: {error.strerror}") from error
    if not is_device:
        raise Refused(f"volume {source.url}: is no block device; file:// is for files")
