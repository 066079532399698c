"""What this host lacks for images and disks, each a sentence with what to do. Asked before a worker takes work."""

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path

from taskvisor.model.errors import TaskvisorError
from virt.command import find_program, run_command
from virt.space import GIB, gib, read_space

FREE_WANTED_BYTES = 1 * GIB
PROGRAMS = {
    "qemu-img": "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL)",
    "mkswap": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
}
"""What images and disks are made with, and the package that has it."""
_VERSION_TIME_LIMIT_S = 10.0


def list_problems(root: Path, *, qemu_uid: int | None = None) -> tuple[str, ...]:
    """The problems of this host with disks below `root`; empty when there are none.

    `qemu_uid`: the user that libvirt starts QEMU as (None: root, who may go anywhere). `root` is made if it can be.
    """
    return (*_program_problems(), *_directory_problems(root, qemu_uid))


def _program_problems() -> tuple[str, ...]:
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        return tuple(f"{name} is not installed; install {PROGRAMS[name]}." for name in missing)
    try:
        run_command(["qemu-img", "--version"], time_limit_s=_VERSION_TIME_LIMIT_S)
    except TaskvisorError as error:
        return (f"qemu-img does not run: {error}; reinstall the package it came from.",)
    return ()


def _directory_problems(root: Path, qemu_uid: int | None) -> tuple[str, ...]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"x" * 4096)
            file.flush()
            problems = _lock_problems(root, file.fileno())
    except OSError as error:
        return (f"{root} cannot be written to ({error.strerror}); make it a directory of the worker's user.",)
    return (*problems, *_space_problems(root), *_path_problems(root, qemu_uid))


def _lock_problems(root: Path, descriptor: int) -> tuple[str, ...]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return (f"The file system of {root} has no flock ({error.strerror}); use a local file system, or NFS 4.",)
    return ()


def _space_problems(root: Path) -> tuple[str, ...]:
    free_bytes = read_space(root).free_bytes
    if free_bytes >= FREE_WANTED_BYTES:
        return ()
    return (f"The file system of {root} has {gib(free_bytes)} free; free at least {gib(FREE_WANTED_BYTES)}.",)


def _path_problems(root: Path, qemu_uid: int | None) -> tuple[str, ...]:
    """QEMU's user must be able to walk to its disks: /root and home directories are usually closed to it."""
    if qemu_uid in (None, 0):
        return ()
    with contextlib.suppress(FileNotFoundError):
        closed = [
            str(path) for path in (root.resolve(), *root.resolve().parents) if not _lets_in(path.stat(), qemu_uid)
        ]
        if closed:
            paths = ", ".join(reversed(closed))
            return (
                f"User {qemu_uid}, whom QEMU runs as, may not pass through {paths}; chmod o+x, or use another root.",
            )
    return ()


def _lets_in(facts: os.stat_result, uid: int | None) -> bool:
    bit = stat.S_IXUSR if facts.st_uid == uid else stat.S_IXOTH
    return bool(facts.st_mode & bit)
