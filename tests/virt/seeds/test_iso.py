"""virt/seeds/iso.py, read back with another program than wrote it."""

import subprocess
import time
from pathlib import Path

import pytest

from taskvisor.model.plan import Seed
from virt.seeds.iso import iso_for

SEED = Seed(meta_data='{"instance-id": "i-1"}', user_data="#cloud-config\nfoo: ümläut\n" * 400, network_config="{}")


def isoinfo(path: Path, *words: str) -> bytes:
    done = subprocess.run(["isoinfo", "-i", str(path), *words], capture_output=True, timeout=30, check=True)
    return done.stdout


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    path = tmp_path / "seed.iso"
    path.write_bytes(iso_for(SEED))
    return path


@pytest.mark.real
def test_the_volume_is_called_cidata(iso: Path) -> None:
    assert b"Volume id: cidata\n" in isoinfo(iso, "-d")


@pytest.mark.real
@pytest.mark.parametrize("names", ["-R", "-J"])
def test_the_three_files_are_in_it_under_their_names(iso: Path, names: str) -> None:
    assert isoinfo(iso, names, "-x", "/meta-data") == SEED.meta_data.encode()
    assert isoinfo(iso, names, "-x", "/user-data") == SEED.user_data.encode()
    assert isoinfo(iso, names, "-x", "/network-config") == SEED.network_config.encode()


def test_the_same_seed_gives_the_same_bytes_at_another_time() -> None:
    first = iso_for(SEED)
    deadline = time.monotonic() + 1.1
    while time.monotonic() < deadline:  # the clock of ISO 9660 counts whole seconds
        assert iso_for(SEED) == first


def test_another_seed_gives_other_bytes() -> None:
    assert iso_for(SEED) != iso_for(Seed(meta_data="{}", user_data=SEED.user_data, network_config="{}"))


def test_empty_files_are_files(tmp_path: Path) -> None:
    assert len(iso_for(Seed(meta_data="", user_data="", network_config=""))) > 32768
