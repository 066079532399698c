"""Guests' disks as images of one Ceph pool. A PoolStore; knows of no directories and no domains. QEMU opens them itself.

    <instance id>_disk[.swap|.eph0|.target]   complete; its metadata say taskvisor.instance=<instance id>
    <instance id>_disk….new                   being made
    taskvisor-base_<SHA-256>                  an image of ours as guests' root disks are cloned from it, at its snapshot `ready`;
                                              gone with the last of them (one that a dead worker left without any: with
                                              the last guest that is built from the same image later)

A pool is shared: other hosts make and remove images in it at the same time. Whoever comes second at a base drops its own, and
Ceph itself refuses to unprotect what has clones. Sources: rbd(8), ceph(8), https://docs.ceph.com/en/pacific/rbd/rbd-snapshot/.
"""

import re
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from taskvisor.model.errors import CannotAsk, Contradiction, Refused, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.operator import CephAccess
from taskvisor.model.plan import CachedImage, DiskContent, DiskPlan
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.command import CommandFailed, find_program, run_command
from virt.durable import ensure_no_file
from virt.progress import Progress, ignore_progress
from virt.space import Space
from virt.stores.data_disk import ensure_data_disk
from virt.stores.place import owner_of_name, pool_disk_at
from virt.stores.root_size import root_bytes_for
from virt.stores.store import SourceDisk

T = TypeVar("T")

log = structlog.get_logger(__name__)

TIME_LIMIT_S: Final = 60.0
REMOVE_TIME_LIMIT_S: Final = 3600.0
"""Every object of an image is removed by itself."""
OWNER_KEY: Final = "taskvisor.instance"
BASE_PREFIX: Final = "taskvisor-base_"
SNAPSHOT: Final = "ready"
PROGRAMS: Final = {"rbd": "ceph-common", "ceph": "ceph-common"}
_NOT_THERE: Final = 2  # exit codes are errnos
_IN_USE: Final = 16
_EXISTS: Final = 17
_NOT_PROTECTED: Final = 22


class _Parent(msgspec.Struct):
    image: str


class _Info(msgspec.Struct):
    size: int
    parent: _Parent | None = None


class _Child(msgspec.Struct):
    image: str


class _PoolStats(msgspec.Struct):
    stored: int
    max_avail: int


class _Pool(msgspec.Struct):
    name: str
    stats: _PoolStats


class _Usage(msgspec.Struct):
    pools: tuple[_Pool, ...]


class RbdStore:
    """One pool, reached as the operator says. `scratch`: the directory of the instances' directories."""

    def __init__(self, pool: str, ceph: CephAccess, *, scratch: Path) -> None:
        self._pool = pool
        self._ceph = ceph
        self._scratch = scratch

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress) -> None:
        """The image is a clone of `base`, which is written to the pool once, and at least as large as asked.

        One that was cloned from another image is a Contradiction: nothing says whether a guest has written to it.
        """
        name, owner = self._place_of(disk)
        wanted_bytes = root_bytes_for(base, disk.size_bytes)
        info = self._owned(name, owner)
        if info is None:
            self._make_clone(name, owner, base, wanted_bytes, progress)
            return
        made_from = "" if info.parent is None else info.parent.image
        if made_from != _base_name(base):
            raise Contradiction(
                f"RBD image {self._full(name)} was cloned from {made_from or 'nothing'}, not from {_base_name(base)}; "
                "left alone: delete the instance, then build it anew"
            )
        self._ensure_size(name, info.size, wanted_bytes)

    def ensure_data(self, disk: DiskPlan) -> None:
        """The image is as large as asked, and held `disk.content` when it was made. Contradiction for another size."""
        if disk.content is None:
            raise Refused(f"{disk.path} is planned to be made from something else, so it is not made empty")
        name, owner = self._place_of(disk)
        info = self._owned(name, owner)
        if info is None:
            aside = self._begin(name, owner)
            self._rbd("create", "--size", f"{disk.size_bytes}B", self._full(aside))
            self._mark(aside, owner)
            self._write_content(aside, owner, disk, disk.content)
            self._rbd("rename", self._full(aside), self._full(name))
        elif info.size != disk.size_bytes:
            raise Contradiction(
                f"RBD image {self._full(name)} is there, but has {info.size} bytes and not {disk.size_bytes}; left alone: "
                "a guest's data may be in it; rename it, then retry"
            )

    def read_source(self, path: str, disk_format: ImageFormat) -> SourceDisk:
        """How QEMU reads the image. Refused when there is none."""
        name = pool_disk_at(path).name
        info = self._info(name)
        if info is None:
            raise Refused(f"there is no RBD image {path}, so it cannot be copied")
        return SourceDisk(name=self._qemu_name(name), format=disk_format, virtual_bytes=info.size)

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """No image of the instance is left, nor a base that only it stood on. Contradiction when one is not marked as its own.

        Retryable while anybody, a guest somewhere, has one open.
        """
        names = [name for name in self._names() if owner_of_name(name) == instance_id]
        strangers = [name for name in names if not name.endswith(".new") and self._owner(name) != instance_id]
        if strangers:
            raise Contradiction(
                f"RBD image {self._full(strangers[0])} is not marked {OWNER_KEY}={instance_id}, so it is not known to be ours; "
                "nothing was removed: rename it, then retry"
            )
        for name in names:
            self._remove(name)

    def list_owners(self) -> frozenset[InstanceId]:
        """The instances, of whichever host, that images in the pool are named after."""
        return frozenset(owner for name in self._names() if (owner := owner_of_name(name)) is not None)

    def read_space(self) -> Space:
        """Of the pool, as Ceph reckons it: what its replicas leave. Every host that uses it has the same."""
        try:
            answer = run_command(["ceph", *self._access(), "df", "--format", "json"], time_limit_s=TIME_LIMIT_S)
            pools = {pool.name: pool.stats for pool in msgspec.json.decode(answer, type=_Usage).pools}
            stats = pools[self._pool]
        except (CommandFailed, msgspec.DecodeError, KeyError) as error:
            raise CannotAsk(f"Ceph cannot say how full pool {self._pool} is: {error}; see `ceph df`") from error
        return Space(total_bytes=stats.stored + stats.max_avail, free_bytes=stats.max_avail)

    def list_problems(self) -> tuple[str, ...]:
        """Programs that are missing, or a pool that cannot be read."""
        missing = sorted({package for program, package in PROGRAMS.items() if find_program(program) is None})
        if missing:
            return tuple(f"Disks are to be in Ceph, and {package} is not installed; install it." for package in missing)
        if not qemu_img.read_knows_protocol(self._qemu_name(f"{BASE_PREFIX}none")):
            return ("Disks are to be in Ceph, and QEMU has no driver for it; install qemu-block-extra.",)
        try:
            self._names()
            self.read_space()
        except Retryable as error:
            return (f"Disks are to be in Ceph, and pool {self._pool} cannot be read: {error}",)
        return ()

    def _make_clone(
        self, name: str, owner: InstanceId, base: CachedImage, wanted_bytes: int, progress: Progress
    ) -> None:
        aside = self._begin(name, owner)  # before: with what was half made, a base that only it stood on may go
        self._ensure_base(owner, base, progress)
        self._rbd("clone", f"{self._full(_base_name(base))}@{SNAPSHOT}", self._full(aside))
        self._mark(aside, owner)
        self._ensure_size(aside, base.virtual_bytes, wanted_bytes)
        self._rbd("rename", self._full(aside), self._full(name))

    def _ensure_base(self, owner: InstanceId, base: CachedImage, progress: Progress) -> None:
        """The image is in the pool, complete. It bears its maker's instance id until then, so that it is found and removed."""
        if self._info(_base_name(base)) is None:
            aside = self._begin(f"{owner}_base.{base.sha256}", owner)
            self._rbd("create", "--size", f"{base.virtual_bytes}B", self._full(aside))
            self._mark(aside, owner)
            qemu_img.copy_as_raw(
                Path(base.path),
                self._qemu_name(aside),
                source_format=base.format,
                virtual_bytes=base.virtual_bytes,
                progress=progress,
                into=qemu_img.Into.BLANK_DEVICE,
            )
            if self._rbd("rename", self._full(aside), self._full(_base_name(base)), harmless=(_EXISTS,)) == _EXISTS:
                self._remove(aside)  # another host was first
        # Also of a base that is there: whoever wanted to remove it may have died, or found that it has clones again.
        snapshot = f"{self._full(_base_name(base))}@{SNAPSHOT}"
        self._rbd("snap", "create", "--no-progress", snapshot, harmless=(_EXISTS,))
        self._rbd("snap", "protect", snapshot, harmless=(_IN_USE,))  # EBUSY: it is protected

    def _begin(self, name: str, owner: InstanceId) -> str:
        """The name under which an image is made, free again after a maker that died."""
        aside = f"{name}.new"
        if self._info(aside) is not None:
            log.info("unfinished_image_removed", image=self._full(aside), instance_id=owner)
            self._remove(aside)
        return aside

    def _write_content(self, name: str, owner: InstanceId, disk: DiskPlan, content: DiskContent) -> None:
        """By way of a sparse file: the makers of file systems know no RBD, and of the file only what they wrote is copied."""
        if content is DiskContent.BLANK:
            return
        file = self._scratch / owner / name
        ensure_no_file(file)
        ensure_data_disk(file, content=content, size_bytes=disk.size_bytes)
        qemu_img.copy_as_raw(
            file,
            self._qemu_name(name),
            source_format=ImageFormat.RAW,
            virtual_bytes=disk.size_bytes,
            progress=ignore_progress,
            into=qemu_img.Into.BLANK_DEVICE,
        )
        ensure_no_file(file)

    def _ensure_size(self, name: str, size_bytes: int, wanted_bytes: int) -> None:
        if size_bytes < wanted_bytes:
            self._rbd("resize", "--no-progress", "--size", f"{wanted_bytes}B", self._full(name))

    def _remove(self, name: str) -> None:
        """The image is gone, and after it the base that nobody else stands on."""
        info = self._info(name)
        if info is None:
            return
        words = ("rm", "--no-progress", self._full(name))
        if self._rbd(*words, harmless=(_IN_USE, _NOT_THERE), time_limit_s=REMOVE_TIME_LIMIT_S) == _IN_USE:
            raise Retryable(
                f"RBD image {self._full(name)} is open somewhere: a guest runs with it, or one died a moment ago; "
                "see `rbd status`",
                delay_s=10.0,
            )
        if info.parent is not None and info.parent.image.startswith(BASE_PREFIX):
            self._drop_base(info.parent.image)

    def _drop_base(self, name: str) -> None:
        """A base without clones is gone. Ceph keeps one that has got a clone meanwhile."""
        if self._children(name):
            return
        snapshot = f"{self._full(name)}@{SNAPSHOT}"
        try:
            self._rbd("snap", "unprotect", snapshot, harmless=(_NOT_THERE, _NOT_PROTECTED))
            self._rbd("snap", "rm", "--no-progress", snapshot, harmless=(_NOT_THERE,))
            self._rbd("rm", "--no-progress", self._full(name), harmless=(_NOT_THERE,), time_limit_s=REMOVE_TIME_LIMIT_S)
        except CommandFailed as error:
            log.info("base_image_kept", image=self._full(name), reason=error.stderr)

    def _place_of(self, disk: DiskPlan) -> tuple[str, InstanceId]:
        planned = pool_disk_at(disk.path)
        if planned.backend.pool != self._pool or planned.owner is None:
            raise Refused(f"{disk.path} is planned as no image of an instance in Ceph pool {self._pool}")
        return planned.name, planned.owner

    def _owned(self, name: str, owner: InstanceId) -> _Info | None:
        info = self._info(name)
        if info is not None and self._owner(name) != owner:
            raise Contradiction(
                f"RBD image {self._full(name)} is there without the mark {OWNER_KEY}={owner}; left alone: rename it, then retry"
            )
        return info

    def _mark(self, name: str, owner: InstanceId) -> None:
        self._rbd("image-meta", "set", self._full(name), OWNER_KEY, owner)

    def _owner(self, name: str) -> str | None:
        marks = self._asked(dict[str, str], "image-meta", "list", "--format", "json", self._full(name))
        return None if marks is None else marks.get(OWNER_KEY)

    def _info(self, name: str) -> _Info | None:
        return self._asked(_Info, "info", "--format", "json", self._full(name))

    def _children(self, name: str) -> list[_Child]:
        found = self._asked(list[_Child], "children", "--all", "--format", "json", f"{self._full(name)}@{SNAPSHOT}")
        return found or []

    def _names(self) -> list[str]:
        names = self._asked(list[str], "ls", "--format", "json", self._pool)
        if names is None:
            raise CannotAsk(f"Ceph has no pool {self._pool}; make it (ceph osd pool create, rbd pool init)")
        return names

    def _asked(self, kind: type[T], *words: str) -> T | None:
        """What rbd answers; None when it says that there is no such image. CannotAsk when it does not answer."""
        try:
            answer = run_command(["rbd", *self._access(), *words], time_limit_s=TIME_LIMIT_S)
            return msgspec.json.decode(answer or "{}", type=kind)
        except CommandFailed as error:
            if error.exit_code == _NOT_THERE:
                return None
            raise CannotAsk(f"Ceph cannot say what {words[-1]} is: {error.stderr}; see `ceph -s`") from error
        except msgspec.DecodeError as error:
            raise CannotAsk(f"rbd's answer on {words[-1]} cannot be read: {error}") from error

    def _rbd(self, *words: str, harmless: tuple[int, ...] = (), time_limit_s: float = TIME_LIMIT_S) -> int:
        """Change something; the exit code, which is 0 or one of the harmless. CommandFailed (a Retryable) for any other."""
        try:
            run_command(["rbd", *self._access(), *words], time_limit_s=time_limit_s)
        except CommandFailed as error:
            if error.exit_code in harmless:
                return error.exit_code
            raise
        return 0

    def _access(self) -> tuple[str, ...]:
        monitors = ("-m", ",".join(self._ceph.monitors)) if self._ceph.monitors else ()
        return ("--conf", self._ceph.config_file, "--id", self._ceph.user, *monitors)

    def _qemu_name(self, name: str) -> str:
        """As QEMU's rbd driver takes it, which splits at colons."""
        options = {"id": self._ceph.user, "conf": self._ceph.config_file}
        if self._ceph.monitors:
            options["mon_host"] = ";".join(self._ceph.monitors)
        return ":".join([f"rbd:{self._full(name)}", *(f"{key}={_escaped(value)}" for key, value in options.items())])

    def _full(self, name: str) -> str:
        return f"{self._pool}/{name}"


def _base_name(base: CachedImage) -> str:
    return f"{BASE_PREFIX}{base.sha256}"


def _escaped(value: str) -> str:
    return re.sub(r"([:@;\\])", r"\\\1", value)
