"""What each kind of place must be able to do. It never knows for whom: `virt.volumes.host` counts users and locks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.plan import DiskStorage
from taskvisor.model.states import ImageFormat
from taskvisor.model.volume import VolumeSource
from virt.qcow2_header import HEADER_READ_BYTES, NotQcow2, parse_header


@dataclass(frozen=True, kw_only=True)
class Place:
    """What QEMU opens."""

    path: str
    storage: DiskStorage


class Connector(ABC):
    """Brings one kind of volume to this host. All that several volumes share (a session, a mount) has one target's name."""

    @abstractmethod
    def place_for(self, source: VolumeSource) -> Place:
        """Where the volume is on this host once it is connected. Asks nothing."""

    def target_for(self, source: VolumeSource) -> str:
        """What is connected for this volume, and for others that share it. Default: the volume alone."""
        return source.url

    @abstractmethod
    def ensure_connected(self, source: VolumeSource) -> None:
        """The place is there. Refused for what is not there or can't be; Retryable for what does not answer."""

    @abstractmethod
    def ensure_disconnected(self, source: VolumeSource) -> None:
        """The target is not connected any more; nobody uses it. What never was is success."""

    def require_format(self, source: VolumeSource, declared: ImageFormat) -> None:
        """What is connected is as declared. What is declared raw is never looked into; what is declared qcow2 is, and stands on
        nothing: a guest that had it as raw may have written any header, to be shown a file of the host as its backing file.
        """
        if declared is not ImageFormat.QCOW2:
            return
        place = self.place_for(source)
        if place.storage is DiskStorage.RBD:
            raise Refused(f"volume {source.url}: what is in Ceph is raw; declare it so")
        try:
            with Path(place.path).open("rb") as file:
                header = parse_header(file.read(HEADER_READ_BYTES))
        except NotQcow2 as error:
            raise Refused(f"volume {source.url}: is declared qcow2 and is none: {error}") from error
        except OSError as error:
            raise CannotAsk(f"cannot read the header of volume {source.url}: {error.strerror}") from error
        if header.backing_file is not None or header.external_data_file:
            raise Refused(f"volume {source.url}: stands on another file; flatten it with qemu-img convert")
