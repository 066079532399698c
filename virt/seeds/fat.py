"""The disk that cloud-init reads, as an image of a FAT file system, for guests that read no CD-ROM. Writes one file.

Made with mkfs.vfat (dosfstools) and mcopy (mtools), which need neither root nor a mount. The same seed gives the same bytes:
`--invariant` leaves out the time and the chance in mkfs.fat(8), and the files are as old as `_MADE_AT`.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from taskvisor.model.plan import ConfigDrive, Seed
from virt.command import run_command
from virt.seeds.volume import SEED_LIMIT_BYTES, SeedVolume, volume_for

IMAGE_BYTES: Final = 4 * SEED_LIMIT_BYTES
"""Nova's is 64 MiB; this is room enough for all that a seed may be, and soon compared."""
TIME_LIMIT_S: Final = 60.0
_MADE_AT: Final = 315532800  # 1980-01-01 UTC, where FAT begins


def fat_for(seed: Seed | ConfigDrive, *, scratch: Path) -> bytes:
    """The image with the seed's files; on one host the same bytes for the same seed. Two subprocesses.

    `scratch` is a directory made for the while; one that is there, left by a process that died, is removed first. Refused as
    by `volume_for`; DoesNotFit when a tool is not installed; Retryable when one fails.
    """
    volume = volume_for(seed)
    _ensure_removed(scratch)
    try:
        scratch.mkdir(mode=0o700)
        return _image_of(volume, scratch)
    finally:
        _ensure_removed(scratch)


def _image_of(volume: SeedVolume, scratch: Path) -> bytes:
    tree, image = scratch / "tree", scratch / "image"
    _write_tree(tree, volume)
    kib = str(IMAGE_BYTES // 1024)
    run_command(["mkfs.vfat", "--invariant", "-n", volume.label, "-C", str(image), kib], time_limit_s=TIME_LIMIT_S)
    tops = sorted(str(path) for path in tree.iterdir())
    run_command(["mcopy", "-s", "-m", "-i", str(image), *tops, "::"], time_limit_s=TIME_LIMIT_S)
    return image.read_bytes()


def _write_tree(tree: Path, volume: SeedVolume) -> None:
    for name, content in volume.files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (_MADE_AT, _MADE_AT))


def _ensure_removed(scratch: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(scratch)
