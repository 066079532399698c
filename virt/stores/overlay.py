"""A root disk: a qcow2 overlay of a cached image, made once, grown if need be, never made anew once a guest has written.

The backing file is named by its absolute path and its format is said: a relative name would hang on where the
instance directory lies, and a format to be guessed could be forged by what is in a raw image.
"""

from pathlib import Path

import structlog

from taskvisor.model.errors import Contradiction
from taskvisor.model.plan import CachedImage
from taskvisor.model.states import ImageFormat
from virt import qemu_img
from virt.durable import ensure_no_file, rename_durably, sync_file
from virt.qcow2_header import NotQcow2, Qcow2Header, read_header, read_is_unwritten
from virt.stores.root_size import root_bytes_for

log = structlog.get_logger(__name__)


def ensure_overlay(path: Path, *, base: CachedImage, size_bytes: int) -> None:
    """`path` is an overlay of `base`, at least `size_bytes` large (0: as large as base). One subprocess when new, else none.

    An overlay that is there is kept and grown, never shrunk. One of another base is made anew while no guest has
    written to it (the source changed between two tries of a build); then it is a Contradiction. Refused when base is
    larger than the size asked.
    """
    wanted_bytes = root_bytes_for(base, size_bytes)
    header = _read_overlay(path)
    if header is not None and not _stands_on(header, base):
        _check_unwritten(path, header, base)
        log.warning("unwritten_overlay_replaced", path=str(path), old_base=header.backing_file, base=base.path)
        header = None
    if header is None:
        _create(path, base, wanted_bytes)
    elif header.virtual_bytes < wanted_bytes:
        qemu_img.grow(path, wanted_bytes)
        sync_file(path)


def _read_overlay(path: Path) -> Qcow2Header | None:
    """The header of what bears the final name; None when nothing does."""
    try:
        return read_header(path)
    except FileNotFoundError:
        return None
    except NotQcow2 as error:
        raise Contradiction(
            f"{path} is there but is no qcow2 disk ({error}); left alone: move it away, then retry"
        ) from error


def _stands_on(header: Qcow2Header, base: CachedImage) -> bool:
    return (header.backing_file, header.backing_format) == (base.path, base.format.value)


def _check_unwritten(path: Path, header: Qcow2Header, base: CachedImage) -> None:
    if not read_is_unwritten(path):
        raise Contradiction(
            f"{path} stands on {header.backing_file or 'no image'} and has been written to, so it is not made anew on "
            f"{base.path}; left alone: move it away, or build from the image it stands on"
        )


def _create(path: Path, base: CachedImage, size_bytes: int) -> None:
    aside = path.with_name(f"{path.name}.new")
    ensure_no_file(aside)
    qemu_img.create_overlay(aside, base=Path(base.path), base_format=ImageFormat(base.format), size_bytes=size_bytes)
    aside.chmod(0o600)
    sync_file(aside)
    rename_durably(aside, path)
