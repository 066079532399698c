"""What files of disks may still grow by."""

import subprocess
from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk
from virt.growth import read_growth_bytes

MIB = 1 << 20


def test_disks_grow_to_what_they_are_to_their_guests(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(one / "disk"), "64M"], check=True, timeout=60)
    with (two / "disk.raw").open("wb") as sparse:
        sparse.truncate(32 * MIB)
    (two / "console.log").write_bytes(b"whole")
    taken_bytes = (one / "disk").stat().st_blocks * 512

    assert read_growth_bytes(tmp_path) == 64 * MIB - taken_bytes + 32 * MIB


def test_without_guests_nothing_grows(tmp_path: Path) -> None:
    assert read_growth_bytes(tmp_path) == 0
    assert read_growth_bytes(tmp_path / "absent") == 0


def test_what_cannot_be_read_is_not_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotAsk, match="cannot look at the disks"):
        read_growth_bytes(tmp_path / "file")
