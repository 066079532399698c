"""The disk that cloud-init reads, as an ISO 9660 image. Pure: files in, bytes out.

Joliet and Rock Ridge carry the files' names, which ISO 9660 itself cannot.

The same seed gives the same bytes, so who writes it can compare and skip. pycdlib stamps the current time in some twenty
places and offers no way to say another; its two modules that ask for the time are given a clock that stands still.
Nothing else in the project uses pycdlib.
"""

import io
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Final

import pycdlib
from pycdlib import headervd
from pycdlib import pycdlib as pycdlib_core

from taskvisor.model.plan import ConfigDrive, Seed
from virt.seeds.volume import volume_for

_MADE_AT: Final = 315532800.0  # 1980-01-01 UTC, the oldest time that every file system can hold
_NOT_OF_ISO: Final = re.compile(r"[^A-Z0-9_.]")

_STANDING_CLOCK = SimpleNamespace(time=lambda: _MADE_AT)
vars(headervd)["time"] = _STANDING_CLOCK
vars(pycdlib_core)["time"] = _STANDING_CLOCK


def iso_for(seed: Seed | ConfigDrive) -> bytes:
    """The ISO with the seed's files; the same bytes for the same seed. Refused as by `volume_for`."""
    volume = volume_for(seed)
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=volume.label)
    try:
        for directory in _directories(volume.files):
            iso.add_directory(_iso_path(directory), rr_name=directory.name, joliet_path=f"/{directory}")
        for name, content in volume.files.items():
            path = PurePosixPath(name)
            iso.add_fp(io.BytesIO(content), len(content), _iso_file(path), rr_name=path.name, joliet_path=f"/{path}")
        image = io.BytesIO()
        iso.write_fp(image)
    finally:
        iso.close()
    return image.getvalue()


def _directories(names: Iterable[str]) -> list[PurePosixPath]:
    """The directories that the files are in, each after the one that it is in."""
    found = {parent for name in names for parent in PurePosixPath(name).parents} - {PurePosixPath()}
    return sorted(found)


def _iso_path(path: PurePosixPath) -> str:
    # ISO 9660 knows capitals, digits and underscores, and in a directory's name no dot either.
    return "".join("/" + _NOT_OF_ISO.sub("_", part.upper()) for part in path.parts)


def _iso_file(path: PurePosixPath) -> str:
    name = _iso_path(path)
    return f"{name};1" if "." in path.name else f"{name}.;1"
