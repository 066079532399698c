"""The operator's file for every guest's cloud-init."""

from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk
from virt.seeds.vendor_data import VENDOR_DATA_LIMIT_BYTES, VendorDataFile


def test_without_a_file_there_are_none() -> None:
    assert VendorDataFile(None).read() is None


def test_a_change_is_seen_by_the_next_who_reads(tmp_path: Path) -> None:
    path = tmp_path / "vendor-data"
    path.write_text("#cloud-config\n# für alle\n")
    vendor_data = VendorDataFile(path)
    assert vendor_data.read() == "#cloud-config\n# für alle\n"
    path.write_text("")
    assert vendor_data.read() == ""


def test_as_many_bytes_as_allowed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "vendor-data"
    path.write_bytes(b"x" * VENDOR_DATA_LIMIT_BYTES)
    assert VendorDataFile(path).read() == "x" * VENDOR_DATA_LIMIT_BYTES


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"\xff", "invalid start byte"),
        (b"x" * (VENDOR_DATA_LIMIT_BYTES + 1), "more than 65535"),
    ],
)
def test_a_file_that_cant_be_used_is_not_as_if_there_were_none(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "vendor-data"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CannotAsk, match=f"{reason}.*TASKVISOR_VENDOR_DATA_FILE"):
        VendorDataFile(path).read()
