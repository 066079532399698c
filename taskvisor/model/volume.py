"""Volumes: storage that lives on without the guest. Named by where it is, for there is no volume service to ask.

A source is a URL; written as `VolumeSource.url` writes it, two names of one place are one. Must never ask what is there.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from taskvisor.model.ids import HostName
from taskvisor.model.plan import DiskBus
from taskvisor.model.states import ImageFormat
from taskvisor.model.tuning import VolumeTuning

ISCSI_PORT = 3260
SERIAL_DIGITS = 16
ALONE, SHARED = "alone", "shared"
"""How an instance holds a volume."""

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TARGET = re.compile(
    r"iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9][a-z0-9.:-]{0,200}|(eui\.[0-9A-Fa-f]{16})|(naa\.[0-9A-Fa-f]{16,32})"
)
_LUN = re.compile(r"0|[1-9][0-9]{0,4}")
_CEPH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SERVER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class VolumeScheme(StrEnum):
    """What kind of place a volume is at."""

    FILE = "file"
    BLOCK = "block"
    ISCSI = "iscsi"
    RBD = "rbd"
    NFS = "nfs"

    @property
    def is_local(self) -> bool:
        """The same name means another thing on each host."""
        return self in (VolumeScheme.FILE, VolumeScheme.BLOCK)


@dataclass(frozen=True, kw_only=True)
class VolumeAttachment:
    """A volume of one instance: where it is, and how the guest sees it. `source` is a `VolumeSource.url`.

    `device` None: its place is not decided yet; once it is, it stays. `boot_index` counts from 0, as callers count.
    """

    source: str
    serial: str
    format: ImageFormat = ImageFormat.RAW
    device: str | None = None
    bus: DiskBus | None = None
    boot_index: int | None = None
    tuning: VolumeTuning = field(default_factory=VolumeTuning)


@dataclass(frozen=True, kw_only=True)
class VolumeSource:
    """Where a volume is. `server` is empty for what lies on a host; `path` begins with / but for rbd and iscsi.

    file:///srv/v.qcow2  block:///dev/disk/by-id/x  nfs://filer/export/dir/file
    iscsi://10.0.0.9:3260/iqn.2010-10.org.example:disk/1  rbd://pool/image
    """

    scheme: VolumeScheme
    server: str
    path: str

    @property
    def url(self) -> str:
        """The one way to write it."""
        match self.scheme:
            case VolumeScheme.FILE | VolumeScheme.BLOCK:
                return f"{self.scheme}://{quote(self.path)}"
            case VolumeScheme.NFS:
                return f"nfs://{self.server}{quote(self.path)}"
            case VolumeScheme.ISCSI:
                return f"iscsi://{self.server}/{self.path}"
            case VolumeScheme.RBD:
                return f"rbd://{self.path}"

    @property
    def target(self) -> str:
        """Of iscsi: the target's name."""
        return self.path.rpartition("/")[0]

    @property
    def lun(self) -> str:
        """Of iscsi: the number of the logical unit."""
        return self.path.rpartition("/")[2]

    @property
    def directory(self) -> str:
        """Of nfs: the directory of the server that holds the file. It is what is mounted."""
        return str(PurePosixPath(self.path).parent)

    @property
    def file_name(self) -> str:
        """Of file and nfs."""
        return PurePosixPath(self.path).name


def parse_volume_source(text: str) -> VolumeSource:
    """The place that a URL names. ValueError says which rule is broken."""
    if _UNPRINTABLE.search(text):
        raise ValueError("must not hold spaces or control characters; write them as %20 and the like")
    parts = urlsplit(text)
    if parts.scheme not in tuple(VolumeScheme):
        raise ValueError(f"must be a URL of {', '.join(VolumeScheme)}, like file:///srv/v.qcow2 or rbd://pool/image")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must be a place and nothing more: no user, no query, no fragment")
    match VolumeScheme(parts.scheme):
        case VolumeScheme.FILE | VolumeScheme.BLOCK as scheme:
            return _local(scheme, parts.netloc, unquote(parts.path))
        case VolumeScheme.NFS:
            return VolumeSource(scheme=VolumeScheme.NFS, server=_server(parts.netloc), path=_file(unquote(parts.path)))
        case VolumeScheme.ISCSI:
            return _iscsi(parts.netloc, parts.path.removeprefix("/"))
        case VolumeScheme.RBD:
            return _rbd(parts.netloc, parts.path.removeprefix("/"))


def volumes_without(volumes: Iterable[VolumeAttachment], source: str) -> tuple[VolumeAttachment, ...]:
    """All of them but the one of that source."""
    return tuple(volume for volume in volumes if volume.source != source)


def volumes_with_device(volumes: Iterable[VolumeAttachment], source: str, device: str) -> tuple[VolumeAttachment, ...]:
    """All of them, the one of that source with that device name."""
    return tuple(replace(volume, device=device) if volume.source == source else volume for volume in volumes)


def volume_identity_for(source: str, host: HostName) -> str:
    """What a volume is known by fleet-wide: its URL, and before it the host where that means something on one host only."""
    return f"{host}/{source}" if VolumeScheme(source.partition(":")[0]).is_local else source


def hold_mode_of(volume: VolumeAttachment) -> str:
    """How an instance that has the volume holds it: ALONE or SHARED."""
    return SHARED if volume.tuning.shareable else ALONE


def volume_serial_for(source: str) -> str:
    """The serial of a volume that was given none: 20 characters, which is all that virtio shows of one."""
    return f"vol-{hashlib.sha256(source.encode()).hexdigest()[:SERIAL_DIGITS]}"


def volume_lies_below(source: str, root: str) -> bool:
    """`root` is the beginning of the URL, up to the end of a segment of its path."""
    return source == root or source.startswith(root.rstrip("/") + "/")


def _local(scheme: VolumeScheme, netloc: str, path: str) -> VolumeSource:
    if netloc not in ("", "localhost"):
        raise ValueError(f"must name something of the guest's host, as {scheme}:///path")
    path = _file(path)
    if scheme is VolumeScheme.BLOCK and not path.startswith("/dev/"):
        raise ValueError("must name a device, as block:///dev/disk/by-id/…")
    return VolumeSource(scheme=scheme, server="", path=path)


def _file(path: str) -> str:
    if _CONTROL.search(path):
        raise ValueError("must not hold control characters")
    parts = PurePosixPath("/" + path.lstrip("/"))
    if ".." in parts.parts or len(parts.parts) < 2:
        raise ValueError("must end in the path of a file, without '..'")
    return str(parts)


def _iscsi(portal: str, path: str) -> VolumeSource:
    target, _, lun = path.rpartition("/")
    if not _TARGET.fullmatch(target) or not _LUN.fullmatch(lun):
        raise ValueError(
            "must be iscsi://ADDRESS[:PORT]/TARGET/LUN, like iscsi://10.0.0.9/iqn.2010-10.org.example:disk/1"
        )
    at = urlsplit(f"//{portal}")
    try:
        address, port = ip_address(at.hostname or ""), at.port or ISCSI_PORT
    except ValueError as error:
        # The kernel names the device after what was logged in to; a host name would make that a guess.
        raise ValueError("must name its portal by address, like 10.0.0.9:3260 or [fd00::9]") from error
    server = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    return VolumeSource(scheme=VolumeScheme.ISCSI, server=server, path=f"{target}/{lun}")


def _rbd(pool: str, image: str) -> VolumeSource:
    if not _CEPH_NAME.fullmatch(pool) or not _CEPH_NAME.fullmatch(image):
        raise ValueError("must be rbd://POOL/IMAGE")
    return VolumeSource(scheme=VolumeScheme.RBD, server="", path=f"{pool}/{image}")


def _server(netloc: str) -> str:
    if netloc.startswith("[") and netloc.endswith("]"):
        try:
            return f"[{ip_address(netloc[1:-1])}]"
        except ValueError as error:
            raise ValueError("must name a server, as nfs://filer/export/file") from error
    if not _SERVER.fullmatch(netloc):
        raise ValueError("must name a server and no port, as nfs://filer/export/file")
    return netloc.lower()
