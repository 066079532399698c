"""Which files lie where, and how many bytes are too many."""

from dataclasses import replace

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.plan import ConfigDrive, Seed
from tests.virt.sample_guests import INSTANCE, vif_of
from virt.seeds.nocloud import seed_for
from virt.seeds.volume import SEED_LIMIT_BYTES, volume_for

SEED = Seed(meta_data="m", user_data="u", network_config="n")
DRIVE = ConfigDrive(meta_data="m", network_data="n", vendor_data="v", vendor_data2="w")


def test_a_nocloud_volume_is_called_cidata() -> None:
    volume = volume_for(SEED)
    assert (volume.label, volume.files) == ("cidata", {"meta-data": b"m", "user-data": b"u", "network-config": b"n"})


def test_vendor_data_are_a_file_only_where_there_are_some() -> None:
    assert volume_for(replace(SEED, vendor_data="")).files["vendor-data"] == b""


def test_a_config_drive_is_called_config_2_and_has_its_files_by_date_and_as_the_latest() -> None:
    volume = volume_for(replace(DRIVE, user_data="u"))
    names = {"meta_data.json": b"m", "user_data": b"u", "network_data.json": b"n"} | {
        "vendor_data.json": b"v",
        "vendor_data2.json": b"w",
    }
    assert volume.label == "config-2"
    assert volume.files == {
        f"openstack/{version}/{name}": content
        for version in ("2018-08-27", "latest")
        for name, content in names.items()
    }


def test_without_user_data_a_config_drive_has_no_file_of_them() -> None:
    assert not [name for name in volume_for(DRIVE).files if "user_data" in name]


def test_as_many_bytes_as_allowed_are_a_volume_and_one_more_is_refused() -> None:
    most = replace(SEED, user_data="x" * (SEED_LIMIT_BYTES - 2))
    assert sum(map(len, volume_for(most).files.values())) == SEED_LIMIT_BYTES
    with pytest.raises(Refused, match="takes 1048577 bytes; at most 1048576 are made into a disk: give fewer SSH keys"):
        volume_for(replace(most, user_data=most.user_data + "x"))


def test_bytes_are_counted_and_not_letters() -> None:
    with pytest.raises(Refused):
        volume_for(replace(SEED, user_data="ü" * (SEED_LIMIT_BYTES // 2)))


def test_what_a_request_may_hold_at_most_is_a_volume() -> None:
    key = "ssh-ed25519 " + "A" * (16_384 - 12)
    metadata = {f"{number:03}" + "k" * 252: "v" * 255 for number in range(128)}
    most = replace(INSTANCE, ssh_keys=(key,) * 8, user_data="x" * 65_535, metadata=metadata)
    volume_for(seed_for(most, [vif_of(INSTANCE.ports[0])], vendor_data="x" * 65_535))
