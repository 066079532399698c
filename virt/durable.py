"""Files that are whole or not there, also after a power cut: write aside, fsync, rename, fsync the directory.

Source: rename(2) is atomic, fsync(2): "does not necessarily ensure that the entry in the directory … has reached disk".
"""

import contextlib
import os
import stat
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """`path` holds `content` and has `mode`, also after a power cut. A reader sees the old file or the new, never a part."""
    aside = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(aside, path)


def rename_durably(source: Path, target: Path) -> None:
    """`source` (its content already synced) bears the name `target`, also after a power cut; a former `target` is gone."""
    source.rename(target)
    sync_directory(target.parent)


def sync_file(path: Path) -> None:
    """The file's content is on disk."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """The directory's entries are on disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def ensure_directory(path: Path, *, mode: int = 0o755) -> None:
    """The directory and its parents exist; the directory has `mode` if it is made here."""
    if path.is_dir():
        return
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def ensure_no_file(path: Path) -> None:
    """No file of that name is there; a directory of that name is not touched (IsADirectoryError)."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def is_regular(path: Path) -> bool:
    """True for a file proper, not for a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
