"""How a snapshot is taken, and how its image is kept: the words of it."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.states import ImageFormat


class Quiesce(StrEnum):
    """Whether the guest's agent freezes its file systems at the moment of a live copy."""

    AUTO = "auto"  # where the agent answers; else the copy is as after a power cut
    REQUIRED = "required"  # or there is no snapshot
    NEVER = "never"


class SnapshotMethod(StrEnum):
    """What becomes of a guest that runs."""

    AUTO = "auto"  # live when it runs, cold when it is off
    LIVE = "live"  # it runs on, and is refused when it is off
    COLD = "cold"  # its memory is saved, nothing runs while its disk is copied, and it goes on from where it was


class Compression(StrEnum):
    """Of a qcow2 image's clusters. QEMU before 5.1 reads no zstd."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"


SNAPSHOT_FORMATS = (ImageFormat.QCOW2, ImageFormat.RAW)


@dataclass(frozen=True, kw_only=True)
class SnapshotEncoding:
    """What a published image is. Raw ones are never compressed."""

    format: ImageFormat = ImageFormat.QCOW2
    compression: Compression = Compression.ZLIB


DEFAULT_ENCODING = SnapshotEncoding()


@dataclass(frozen=True, kw_only=True)
class LiveCopy:
    """A disk that was copied while its guest ran. `why_not` is there exactly when it was not quiesced."""

    quiesced: bool
    why_not: str | None = None


def encoding_for(
    asked_format: ImageFormat | None, asked_compression: Compression | None, default: SnapshotEncoding
) -> SnapshotEncoding:
    """What is asked, and where nothing is, the host's default. Who asks for compression only wants a format that has it."""
    compressed = asked_compression not in (None, Compression.NONE)
    image_format = asked_format or (ImageFormat.QCOW2 if compressed else default.format)
    if image_format is ImageFormat.RAW:
        return SnapshotEncoding(format=image_format, compression=Compression.NONE)
    return SnapshotEncoding(format=image_format, compression=asked_compression or default.compression)
