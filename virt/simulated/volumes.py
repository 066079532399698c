"""Volumes of a simulated host: any place there may be is a file that is there while somebody is connected to it.

Users are counted by the real thing (`virt.volumes.host`); only what is beyond the host is played.
"""

from pathlib import Path

from taskvisor.model.errors import CannotAsk
from taskvisor.model.plan import DiskStorage
from taskvisor.model.states import ImageFormat
from taskvisor.model.volume import VolumeScheme, VolumeSource
from virt.volumes.connector import Connector, Place
from virt.volumes.host import HostVolumes
from virt.volumes.host_state import digest_of


class SimulatedVolumes(HostVolumes):
    """The port Volumes, on files below `root`. It goes wherever it is told to."""

    def __init__(self, root: Path) -> None:
        connector = SimulatedConnector(root / "volumes" / "connected")
        super().__init__(root / "volumes", dict.fromkeys(VolumeScheme, connector), roots=None)


class SimulatedConnector(Connector):
    """An empty file for each volume. It is whatever it is declared to be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def place_for(self, source: VolumeSource) -> Place:
        return Place(path=str(self._directory / digest_of(source.url)), storage=DiskStorage.FILE)

    def ensure_connected(self, source: VolumeSource) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            Path(self.place_for(source).path).touch()
        except OSError as error:
            raise CannotAsk(f"cannot connect {source.url}: {error.strerror}; has the host been removed?") from error

    def ensure_disconnected(self, source: VolumeSource) -> None:
        Path(self.place_for(source).path).unlink(missing_ok=True)

    def require_format(self, source: VolumeSource, declared: ImageFormat) -> None:
        """A simulated volume holds nothing to look into."""
