"""virt/seeds/fat.py, read back with other programs than wrote it."""

import subprocess
from pathlib import Path

import pytest

from taskvisor.model.plan import ConfigDrive
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.config_drive import config_drive_for
from virt.seeds.fat import IMAGE_BYTES, fat_for
from virt.seeds.volume import SEED_LIMIT_BYTES

DRIVE = config_drive_for(INSTANCE, [vif_of(INSTANCE.ports[0])], vendor_data="#cloud-config\n{}\n")


def read_back(image: Path, name: str) -> bytes:
    argv = ["mcopy", "-i", str(image), f"::{name}", "-"]
    return subprocess.run(argv, capture_output=True, timeout=30, check=True).stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.config"
    path.write_bytes(fat_for(DRIVE, scratch=tmp_path / "scratch"))
    return path


@pytest.mark.real
def test_the_volume_is_found_by_its_label(image: Path) -> None:
    said = subprocess.run(
        ["blkid", "-p", "-o", "export", image], capture_output=True, text=True, timeout=30, check=True
    )
    facts = dict(line.split("=", 1) for line in said.stdout.splitlines())
    assert (facts["LABEL"], facts["TYPE"]) == ("config-2", "vfat")


@pytest.mark.real
def test_its_file_system_is_sound(image: Path) -> None:
    assert subprocess.run(["fsck.vfat", "-n", image], capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.real
@pytest.mark.parametrize("version", ["latest", "2018-08-27"])
def test_the_files_are_in_it_under_their_long_names(image: Path, version: str) -> None:
    assert read_back(image, f"openstack/{version}/meta_data.json") == DRIVE.meta_data.encode()
    assert read_back(image, f"openstack/{version}/network_data.json") == DRIVE.network_data.encode()
    assert read_back(image, f"openstack/{version}/vendor_data2.json") == DRIVE.vendor_data2.encode()


@pytest.mark.real
def test_the_same_drive_is_the_same_bytes_also_after_a_death_and_nothing_is_left_beside_it(
    image: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "tree" / "openstack").mkdir(parents=True)
    (scratch / "tree" / "stray").write_text("of a process that died")
    assert fat_for(DRIVE, scratch=scratch) == image.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.config"]


@pytest.mark.real
def test_there_is_room_for_as_many_bytes_as_a_seed_may_have(tmp_path: Path) -> None:
    most = ConfigDrive(
        meta_data="x" * (SEED_LIMIT_BYTES // 2), network_data="", vendor_data="", vendor_data2="", user_data=None
    )
    assert len(fat_for(most, scratch=tmp_path / "scratch")) == IMAGE_BYTES
