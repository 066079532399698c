"""What lies where on the disk that cloud-init reads: the volume's label and its files. Pure; knows no file system.

NoCloud: https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
Config drive: https://docs.openstack.org/nova/latest/user/metadata.html#config-drives
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from taskvisor.model.errors import Refused
from taskvisor.model.plan import ConfigDrive, Seed

NOCLOUD_LABEL: Final = "cidata"
CONFIG_DRIVE_LABEL: Final = "config-2"
CONFIG_DRIVE_VERSIONS: Final = ("2018-08-27", "latest")
"""Directories with the same files. cloud-init takes the newest date that it knows, and this is the last one that changed
any file of ours; others look for `latest`."""
SEED_LIMIT_BYTES: Final = 1 << 20
"""Of all files together. User data are at most 64 KiB, so what reaches this was never meant for a guest's first boot."""


@dataclass(frozen=True, kw_only=True)
class SeedVolume:
    """A volume: its files by their paths, in the order in which they are written."""

    label: str
    files: Mapping[str, bytes]


def volume_for(seed: Seed | ConfigDrive) -> SeedVolume:
    """The volume. Refused when its files are more than SEED_LIMIT_BYTES."""
    label, named = (
        (NOCLOUD_LABEL, _of_nocloud(seed)) if isinstance(seed, Seed) else (CONFIG_DRIVE_LABEL, _of_config_drive(seed))
    )
    files = {path: text.encode() for path, text in named}
    size_bytes = sum(map(len, files.values()))
    if size_bytes > SEED_LIMIT_BYTES:
        raise Refused(
            f"what cloud-init is to read takes {size_bytes} bytes; at most {SEED_LIMIT_BYTES} are made into a disk: give"
            " fewer SSH keys, or less metadata, user data or vendor data"
        )
    return SeedVolume(label=label, files=files)


def _of_nocloud(seed: Seed) -> Iterator[tuple[str, str]]:
    yield "meta-data", seed.meta_data
    yield "user-data", seed.user_data
    yield "network-config", seed.network_config
    if seed.vendor_data is not None:
        yield "vendor-data", seed.vendor_data


def _of_config_drive(drive: ConfigDrive) -> Iterator[tuple[str, str]]:
    for version in CONFIG_DRIVE_VERSIONS:
        directory = f"openstack/{version}"
        yield f"{directory}/meta_data.json", drive.meta_data
        if drive.user_data is not None:
            yield f"{directory}/user_data", drive.user_data
        yield f"{directory}/network_data.json", drive.network_data
        yield f"{directory}/vendor_data.json", drive.vendor_data
        yield f"{directory}/vendor_data2.json", drive.vendor_data2
