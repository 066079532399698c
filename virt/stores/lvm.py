"""Guests' disks as logical volumes of one volume group. A PoolStore; knows of no directories and no domains.

    <instance id>_disk[.swap|.eph0|.target]   complete; tagged taskvisor.instance=<instance id>, and taskvisor.base=<SHA-256>
                                              when made from an image
    <instance id>_disk….new                   being made

What was in a volume's extents before may be another guest's: a volume of its own is written with zeros wherever the image
is not, one in a thin pool reads as zeros (lvmthin(7): `zero`). Growth that was not zeroed yet bears taskvisor.zero_from=<bytes>.

Run here against recorded answers of LVM 2.03.16 only: it needs the kernel's device mapper.
Sources: lvcreate(8), lvs(8), lvextend(8), lvrename(8), lvremove(8), lvmreport(7), blkdiscard(8).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from taskvisor.model.errors import CannotAsk, Contradiction, DoesNotFit, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import CachedImage, DiskPlan
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.command import CommandFailed, find_program, run_command
from virt.durable import sync_file
from virt.progress import Progress
from virt.space import Space, gib
from virt.stores import data_disk
from virt.stores.place import pool_disk_at
from virt.stores.root_size import root_bytes_for
from virt.stores.store import SourceDisk

TIME_LIMIT_S: Final = 60.0
"""Of what touches LVM's metadata only; it waits for the group's lock."""
ZERO_TIME_LIMIT_S: Final = 6 * 3600.0
OWNER_TAG: Final = "taskvisor.instance="
BASE_TAG: Final = "taskvisor.base="
ZERO_TAG: Final = "taskvisor.zero_from="
PROGRAMS: Final = {
    "lvs": "lvm2",
    "vgs": "lvm2",
    "lvcreate": "lvm2",
    "lvextend": "lvm2",
    "lvchange": "lvm2",
    "lvrename": "lvm2",
    "lvremove": "lvm2",
    "blkdiscard": "util-linux",
}
_REPORT: Final = ("--reportformat", "json", "--units", "b", "--nosuffix")
_FULL: Final = "insufficient free space"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A logical volume as LVM reports it."""

    name: str
    size_bytes: int
    tags: frozenset[str]

    def tagged(self, prefix: str) -> str | None:
        """What follows the prefix in the tag that begins with it; None when none does."""
        return next((tag.removeprefix(prefix) for tag in sorted(self.tags) if tag.startswith(prefix)), None)

    @property
    def owner(self) -> InstanceId | None:
        """The instance that its tag names."""
        owner = self.tagged(OWNER_TAG)
        return None if owner is None else InstanceId(owner)


class _VolumeRow(msgspec.Struct):
    lv_name: str
    lv_size: str
    lv_tags: str
    data_percent: str = ""


class _GroupRow(msgspec.Struct):
    vg_size: str
    vg_free: str


class _Report(msgspec.Struct):
    lv: tuple[_VolumeRow, ...] = ()
    vg: tuple[_GroupRow, ...] = ()


class _Answer(msgspec.Struct):
    report: tuple[_Report, ...]


class LvmStore:
    """One volume group. With `thin_pool`, volumes are made in that pool of it, and take room as guests write."""

    def __init__(self, group: str, *, thin_pool: str = "") -> None:
        self._group = group
        self._thin_pool = thin_pool

    def ensure_root(self, disk: DiskPlan, base: CachedImage, progress: Progress) -> None:
        """The volume holds `base`, at least as large as asked.

        One that was made from another image is a Contradiction: a volume does not say whether a guest has written to it.
        """
        name, owner = self._place_of(disk)
        wanted_bytes = root_bytes_for(base, disk.size_bytes)
        there = self._owned(name, owner)
        if there is None:
            made = self._begin(name, owner, wanted_bytes, (f"{BASE_TAG}{base.sha256}",))
            self._write_image(made, base, progress)
            self._finish(made, name)
            return
        made_from = there.tagged(BASE_TAG)
        if made_from != base.sha256:
            raise Contradiction(
                f"volume {self._full(name)} was made from image {(made_from or 'unknown')[:12]}, not from "
                f"{base.sha256[:12]}; left alone: delete the instance, then build it anew"
            )
        self._ensure_grown(there, wanted_bytes)

    def ensure_data(self, disk: DiskPlan) -> None:
        """The volume is as large as asked, and held `disk.content` when it was made. Contradiction for a smaller one."""
        if disk.content is None:
            raise Refused(f"{disk.path} is planned to be made from something else, so it is not made empty")
        name, owner = self._place_of(disk)
        there = self._owned(name, owner)
        if there is None:
            made = self._begin(name, owner, disk.size_bytes, ())
            self._write_zeros(made, 0)
            data_disk.fill(self._path(made), disk.content)
            self._finish(made, name)
        elif there.size_bytes < disk.size_bytes:  # larger by less than an extent is usual
            raise Contradiction(
                f"volume {self._full(name)} is there, but has {there.size_bytes} bytes and not {disk.size_bytes}; left alone: "
                "a guest's data may be in it; rename it (lvrename), then retry"
            )

    def read_source(self, path: str, disk_format: ImageFormat) -> SourceDisk:
        """How the volume is read. Refused when there is none."""
        found = self._volumes().get(pool_disk_at(path).name)
        if found is None:
            raise Refused(f"there is no volume {path}, so it cannot be copied")
        return SourceDisk(name=Path(path), format=disk_format, virtual_bytes=found.size_bytes)

    def ensure_removed(self, instance_id: InstanceId) -> None:
        """No volume is tagged with the instance's id. Contradiction when one bears its name without the tag."""
        volumes = self._volumes().values()
        strangers = [
            volume.name
            for volume in volumes
            if volume.name.startswith(f"{instance_id}_") and volume.owner != instance_id
        ]
        if strangers:
            raise Contradiction(
                f"volume {self._full(strangers[0])} is not tagged {OWNER_TAG}{instance_id}, so it is not known to be ours; "
                "nothing was removed: rename it (lvrename), then retry"
            )
        for volume in volumes:
            if volume.owner == instance_id:
                self._remove(volume.name)

    def list_owners(self) -> frozenset[InstanceId]:
        """The instances that volumes are tagged with."""
        return frozenset(volume.owner for volume in self._volumes().values() if volume.owner is not None)

    def read_space(self) -> Space:
        """Of the group, or of the thin pool in it."""
        if self._thin_pool:
            rows = self._report("lvs", "lv_name,lv_size,lv_tags,data_percent", f"{self._group}/{self._thin_pool}").lv
            pool = rows[0]
            total_bytes = int(pool.lv_size)
            return Space(
                total_bytes=total_bytes, free_bytes=int(total_bytes * (1 - float(pool.data_percent or 0) / 100))
            )
        group = self._report("vgs", "vg_size,vg_free", self._group).vg[0]
        return Space(total_bytes=int(group.vg_size), free_bytes=int(group.vg_free))

    def list_problems(self) -> tuple[str, ...]:
        """Programs that are missing, or a group or pool that cannot be read."""
        missing = sorted({package for program, package in PROGRAMS.items() if find_program(program) is None})
        if missing:
            return tuple(
                f"Disks are to be LVM volumes, and {package} is not installed; install it." for package in missing
            )
        try:
            self.read_space()
        except (CannotAsk, DoesNotFit) as error:
            return (f"Disks are to be LVM volumes, and group {self._shown()} cannot be read: {error}",)
        return ()

    def _place_of(self, disk: DiskPlan) -> tuple[str, InstanceId]:
        planned = pool_disk_at(disk.path)
        if planned.backend.pool != self._group or planned.owner is None:
            raise Refused(f"{disk.path} is planned as no volume of an instance in group {self._group}")
        return planned.name, planned.owner

    def _owned(self, name: str, owner: InstanceId) -> Volume | None:
        found = self._volumes().get(name)
        if found is not None and found.owner != owner:
            raise Contradiction(
                f"volume {self._full(name)} is there without the tag {OWNER_TAG}{owner}; left alone: rename it, then retry"
            )
        return found

    def _begin(self, name: str, owner: InstanceId, size_bytes: int, tags: tuple[str, ...]) -> str:
        """A fresh volume of another name, with its owner's tag from the first moment."""
        aside = f"{name}.new"
        if self._owned(aside, owner) is not None:
            self._remove(aside)
        words = [word for tag in (f"{OWNER_TAG}{owner}", *tags) for word in ("--addtag", tag)]
        room = ("--virtualsize", f"{size_bytes}b", "--thinpool", self._thin_pool) if self._thin_pool else (
            "--size", f"{size_bytes}b", "--wipesignatures", "n"
        )  # fmt: skip
        self._change(
            f"make volume {self._full(aside)}", "lvcreate", "--yes", *words, *room, "--name", aside, self._group
        )
        return aside

    def _finish(self, aside: str, name: str) -> None:
        sync_file(self._path(aside))
        self._change(f"name volume {self._full(name)}", "lvrename", self._group, aside, name)

    def _write_image(self, name: str, base: CachedImage, progress: Progress) -> None:
        qemu_img.copy_as_raw(
            Path(base.path),
            self._path(name),
            source_format=base.format,
            virtual_bytes=base.virtual_bytes,
            progress=progress,
            into=qemu_img.Into.BLANK_DEVICE if self._thin_pool else qemu_img.Into.DEVICE,
        )
        self._write_zeros(name, base.virtual_bytes)

    def _write_zeros(self, name: str, from_bytes: int) -> None:
        """What lies beyond is nobody's any more. In a thin pool it never was anybody's."""
        if self._thin_pool or self._volumes()[name].size_bytes <= from_bytes:
            return
        run_command(
            ["blkdiscard", "--zeroout", "--offset", str(from_bytes), str(self._path(name))],
            time_limit_s=ZERO_TIME_LIMIT_S,
        )

    def _ensure_grown(self, volume: Volume, wanted_bytes: int) -> None:
        """The tag comes first: a volume that grew, and whose maker died then, is known to show what was there before."""
        zero_from = volume.tagged(ZERO_TAG)
        if volume.size_bytes < wanted_bytes:
            full = self._full(volume.name)
            if zero_from is None and not self._thin_pool:
                zero_from = str(volume.size_bytes)
                self._change(f"grow volume {full}", "lvchange", "--addtag", f"{ZERO_TAG}{zero_from}", full)
            self._change(f"grow volume {full}", "lvextend", "--size", f"{wanted_bytes}b", full)
        if zero_from is not None:
            self._write_zeros(volume.name, int(zero_from))
            full = self._full(volume.name)
            self._change(f"grow volume {full}", "lvchange", "--deltag", f"{ZERO_TAG}{zero_from}", full)

    def _remove(self, name: str) -> None:
        run_command(["lvremove", "--yes", self._full(name)], time_limit_s=TIME_LIMIT_S)

    def _change(self, what: str, *argv: str) -> None:
        try:
            run_command(argv, time_limit_s=TIME_LIMIT_S)
        except CommandFailed as error:
            if _FULL in error.stderr:
                raise DoesNotFit(
                    f"cannot {what}: {error.stderr.strip().splitlines()[-1].strip()}; group {self._shown()} has "
                    f"{gib(self.read_space().free_bytes)} free; free some space, or build elsewhere"
                ) from error
            raise

    def _volumes(self) -> Mapping[str, Volume]:
        rows = self._report("lvs", "lv_name,lv_size,lv_tags", self._group).lv
        return {
            row.lv_name: Volume(
                name=row.lv_name, size_bytes=int(row.lv_size), tags=frozenset(filter(None, row.lv_tags.split(",")))
            )
            for row in rows
        }

    def _report(self, program: str, columns: str, of: str) -> _Report:
        try:
            answer = run_command([program, *_REPORT, "--options", columns, of], time_limit_s=TIME_LIMIT_S)
            return msgspec.json.decode(answer, type=_Answer).report[0]
        except CommandFailed as error:
            raise CannotAsk(f"LVM cannot say what is in {of}: {error.stderr}; see `vgs` on this host") from error
        except (msgspec.DecodeError, IndexError) as error:
            raise CannotAsk(f"LVM's answer on {of} cannot be read: {error}") from error

    def _shown(self) -> str:
        return f"{self._group}/{self._thin_pool}" if self._thin_pool else self._group

    def _full(self, name: str) -> str:
        return f"{self._group}/{name}"

    def _path(self, name: str) -> Path:
        return Path("/dev", self._group, name)
