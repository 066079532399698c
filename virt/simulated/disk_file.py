"""What a simulated guest's disk says of itself, as `virt.disk_file` reads it of a real one."""

from pathlib import Path

import msgspec

from taskvisor.model.observed import DiskFileFacts
from taskvisor.model.states import ImageFormat
from virt.disk_file import is_there, read_disk_file
from virt.simulated.image_file import MARK, ImageFile
from virt.simulated.world import read_file


def read_simulated_disk(path: Path) -> DiskFileFacts | None:
    """What its file says; None when no file is there. One that is no simulated disk is read as a real one."""
    content = read_file(path) if is_there(path) else None
    if content is None or not content.startswith(MARK):
        return read_disk_file(path)
    try:
        image = msgspec.json.decode(content, type=ImageFile)
    except msgspec.DecodeError:
        return DiskFileFacts(format=ImageFormat.RAW, virtual_bytes=len(content))
    stands_on_it = image.format is ImageFormat.QCOW2 and image.made_from.startswith("/")
    base = image.made_from if stands_on_it else None
    return DiskFileFacts(
        format=image.format,
        virtual_bytes=image.virtual_bytes,
        base_path=base,
        base_is_there=base is None or is_there(Path(base)),
    )
