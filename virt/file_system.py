"""What the file system of a directory is and can: its type, and what guests' disks there rely on. Leaves nothing behind."""

import ctypes
import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.errors import CannotAsk

MOUNTS = Path("/proc/self/mountinfo")
DT_UNKNOWN = 0
_TYPE_OFFSET = 18
"""Of d_type in glibc's and musl's struct dirent on 64-bit Linux: readdir(3)."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.opendir.restype = ctypes.c_void_p
_LIBC.readdir.restype = ctypes.POINTER(ctypes.c_ubyte)
_LIBC.readdir.argtypes = (ctypes.c_void_p,)
_LIBC.closedir.argtypes = (ctypes.c_void_p,)


@dataclass(frozen=True, kw_only=True)
class FileSystem:
    """`direct`: files open with O_DIRECT, as QEMU's cache=none wants it. `types`: entries of directories tell what they are."""

    kind: str
    mount_point: str
    direct: bool
    types: bool


def read_file_system(directory: Path) -> FileSystem:
    """Of a directory that is there. CannotAsk when it can't be written to or looked at."""
    try:
        kind, mount_point = parse_mounts(MOUNTS.read_text(errors="surrogateescape"), directory.resolve())
        return FileSystem(
            kind=kind, mount_point=mount_point, direct=_opens_direct(directory), types=_tells_types(directory)
        )
    except OSError as error:
        raise CannotAsk(f"cannot look at the file system of {directory}: {error.strerror}") from error


def parse_mounts(text: str, path: Path) -> tuple[str, str]:
    """Type and mount point of what `path` lies on, by proc_pid_mountinfo(5). The last of equals is on top."""
    best = ("unknown", "/")
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if not separator or len(fields) < 5:
            continue
        mount_point = fields[4].encode("latin-1", "replace").decode("unicode_escape")  # \040 for a blank, and the like
        if path.is_relative_to(mount_point) and len(mount_point) >= len(best[1]):
            best = (after.split()[0], mount_point)
    return best


def _opens_direct(directory: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        try:
            os.close(os.open(file.name, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EINVAL:  # open(2): the file system does not have it
                return False
            raise
    return True


def _tells_types(directory: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        wanted = os.path.basename(file.name).encode()
        handle = _LIBC.opendir(os.fsencode(directory))
        if not handle:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        try:
            while entry := _LIBC.readdir(handle):
                start = ctypes.addressof(entry.contents)
                if ctypes.string_at(start + _TYPE_OFFSET + 1) == wanted:
                    return bool(entry[_TYPE_OFFSET] != DT_UNKNOWN)
        finally:
            _LIBC.closedir(handle)
    return False
