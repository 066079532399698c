"""A volume group with the real LVM, on a kernel without device mapper: LVM keeps its metadata, and files stand for devices.

`--driverloaded n` lets LVM's commands do all but the mapping itself. Of thin pools they then do nothing, so that volumes in
one are only composed (test_lvm_store).
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virt import command

CONFIGURATION = """config {{ checks=0 }}
devices {{ dir="/dev" scan=["/dev"] filter=["a|^{device}$|","r|.*|"] use_devicesfile=0 obtain_device_list_from_udev=0 }}
activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}
global {{ locking_dir="{directory}/lock" use_lvmpolld=0 event_activation=0 }}
backup {{ backup=0 archive=0 }}
"""
GROUP = "tvtguests"


def nobody_dies(number: int) -> None:
    """After no call."""


@dataclass(kw_only=True)
class LvmWithoutDevices:
    """`run` is what a store is to call in place of run_command; `devices` has a file for each volume."""

    directory: Path
    device: str
    calls: list[Sequence[str]] = field(default_factory=list)
    after: Callable[[int], None] = nobody_dies

    @property
    def devices(self) -> Path:
        return self.directory / "devices"

    def run(self, argv: Sequence[str], **limits: Any) -> str:
        """The command, done to metadata by LVM and to data by us."""
        program, *words = argv
        if program == "blkdiscard":
            answer = self._zero(words)
        else:
            inactive = ("--activate", "n", "--zero", "n") if program == "lvcreate" else ()
            answer = self.lvm(program, *inactive, *words)
            self._follow(program, words)
        self.calls.append(argv)
        self.after(len(self.calls))
        return answer

    def lvm(self, program: str, *words: str) -> str:
        """As the store would call it, but for the driver. CommandFailed as ever."""
        environment = ("env", f"LVM_SYSTEM_DIR={self.directory}", "LVM_SUPPRESS_FD_WARNINGS=1")
        return command.run_command([*environment, program, "--driverloaded", "n", *words], time_limit_s=120)

    def sizes(self) -> dict[str, int]:
        """The volumes, by name, and how large each is."""
        said = self.lvm("lvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "lv_name,lv_size", GROUP)
        rows = (line.split() for line in said.splitlines() if line.strip())
        return {name: int(size) for name, size in rows}

    def _follow(self, program: str, words: Sequence[str]) -> None:
        match program:
            case "lvcreate":
                name = words[words.index("--name") + 1]
                (self.devices / name).write_bytes(b"\xaa" * self.sizes()[name])  # what another guest had there
            case "lvrename":
                (self.devices / words[-2]).rename(self.devices / words[-1])
            case "lvremove":
                (self.devices / words[-1].partition("/")[2]).unlink()
            case "lvextend":
                name = words[-1].partition("/")[2]
                with (self.devices / name).open("ab") as file:
                    file.write(b"\xaa" * (self.sizes()[name] - file.tell()))

    def _zero(self, words: Sequence[str]) -> str:
        assert words[:2] == ["--zeroout", "--offset"]
        path, offset = Path(words[-1]), int(words[2])
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes(path.stat().st_size - offset))
        return ""


def open_group(directory: Path) -> LvmWithoutDevices:
    """A group of 200 MiB on a loop device."""
    (directory / "devices").mkdir(parents=True)
    image = directory / "disk"
    with image.open("wb") as file:
        file.truncate(200 << 20)
    found = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, timeout=30, capture_output=True, text=True
    )
    opened = LvmWithoutDevices(directory=directory, device=found.stdout.strip())
    (directory / "lvm.conf").write_text(CONFIGURATION.format(device=opened.device, directory=directory))
    opened.lvm("pvcreate", "--yes", opened.device)
    opened.lvm("vgcreate", GROUP, opened.device)
    return opened


def close_group(opened: LvmWithoutDevices) -> None:
    """Neither the loop device nor a file is left."""
    subprocess.run(["losetup", "--detach", opened.device], check=True, timeout=30)
    shutil.rmtree(opened.directory)
