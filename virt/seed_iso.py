"""The NoCloud seed: an ISO that a guest's cloud-init reads at its first boot. Pure: text in, bytes out.

Source: https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html: a volume labelled `cidata` with the
files meta-data, user-data and network-config. Joliet and Rock Ridge carry their names, which ISO 9660 itself cannot.

The same seed gives the same bytes, so who writes it can compare and skip. pycdlib stamps the current time in some twenty
places and offers no way to say another; its two modules that ask for the time are given a clock that stands still.
Nothing else in the project uses pycdlib.
"""

import io
from types import SimpleNamespace
from typing import Final

import pycdlib
from pycdlib import headervd
from pycdlib import pycdlib as pycdlib_core

from taskvisor.model.plan import Seed

VOLUME_LABEL: Final = "cidata"
_MADE_AT: Final = 315532800.0  # 1980-01-01 UTC, the oldest time that every file system can hold

_STANDING_CLOCK = SimpleNamespace(time=lambda: _MADE_AT)
vars(headervd)["time"] = _STANDING_CLOCK
vars(pycdlib_core)["time"] = _STANDING_CLOCK


def iso_for(seed: Seed) -> bytes:
    """The ISO with the seed's three files; the same bytes for the same seed."""
    files = {
        "meta-data": ("/META_DATA.;1", seed.meta_data),
        "user-data": ("/USER_DATA.;1", seed.user_data),
        "network-config": ("/NETWORK_CONFIG.;1", seed.network_config),
    }
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=VOLUME_LABEL)
    try:
        for name, (iso_path, text) in files.items():
            content = text.encode()
            iso.add_fp(io.BytesIO(content), len(content), iso_path, rr_name=name, joliet_path=f"/{name}")
        image = io.BytesIO()
        iso.write_fp(image)
    finally:
        iso.close()
    return image.getvalue()
