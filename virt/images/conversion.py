"""Making a qcow2 image of a foreign one (VMDK, VDI, VHD, VHDX) that inspection found harmless. Knows nothing of caches.

A compressed image of a few MiB may unpack to any size, and a crafted one may keep a reader busy for ever: so what is
written is bounded by what the image says it holds, by what the operator allows and by what the disk has left; and CPU
time and memory are bounded too. What is over a bound is the image's fault and Refused; but for the disk's.
"""

import signal
from pathlib import Path
from typing import Final

from taskvisor.model.errors import DoesNotFit, Refused
from virt import qemu_img
from virt.command import CommandFailed
from virt.durable import ensure_no_file
from virt.images.inspection import Inspected
from virt.progress import Progress
from virt.space import gib, no_space, read_space

KEPT_FREE_BYTES: Final = 1 << 30
"""A conversion leaves so much of the file system to others: its own end is Refused in words, a full disk is everybody's."""

_METADATA_BYTES = 8 << 20
_METADATA_SHARE = 4096  # qcow2 has 8 bytes of L2 table and 2 of refcounts for each cluster of 64 KiB
_FILE_TOO_LARGE = "File too large"


def convert(source: Path, target: Path, image: Inspected, *, limit_bytes: int, name: str, progress: Progress) -> None:
    """`target` is a qcow2 image with all that `source`, of the format that was found, holds. A former target is gone.

    `progress` tells bytes of the disk. Refused when it would exceed `limit_bytes` or takes too much CPU time or memory;
    DoesNotFit when the file system has not enough left. What was written until then is removed.
    """
    honest_bytes = image.virtual_bytes + image.virtual_bytes // _METADATA_SHARE + _METADATA_BYTES
    free_bytes = max(read_space(target).free_bytes - KEPT_FREE_BYTES, _METADATA_BYTES)
    output_limit_bytes = min(honest_bytes, limit_bytes, free_bytes)
    ensure_no_file(target)
    try:
        qemu_img.import_image(
            source,
            target,
            image.format,
            virtual_bytes=image.virtual_bytes,
            output_limit_bytes=output_limit_bytes,
            progress=progress,
        )
    except CommandFailed as error:
        ensure_no_file(target)
        if not _is_over_size(error):
            raise _translated(error, name) from error
        if output_limit_bytes == free_bytes:
            raise no_space(target, None, f"convert {name} ({gib(image.virtual_bytes)} at most)") from error
        raise Refused(
            f"{name} holds more than {gib(output_limit_bytes)} once it is converted; make it smaller, or have"
            " TASKVISOR_MAX_IMAGE_GIB raised on the hosts"
        ) from error
    except BaseException:
        ensure_no_file(target)
        raise


def _is_over_size(error: CommandFailed) -> bool:
    return error.exit_code == -signal.SIGXFSZ or _FILE_TOO_LARGE in error.stderr


def _translated(error: CommandFailed, name: str) -> Refused | DoesNotFit | CommandFailed:
    if error.exit_code == -signal.SIGXCPU:
        return Refused(
            f"{name} took more than {qemu_img.IMPORT_CPU_LIMIT_S} s of CPU time to convert; convert it elsewhere first"
        )
    if error.exit_code < 0:  # killed, by this host's lack of memory for one: another try may do
        return error
    why = next(iter(error.stderr.splitlines()), "qemu-img does not say why")
    return Refused(f"{name} cannot be converted ({why}); convert it elsewhere first (qemu-img convert -O qcow2)")
