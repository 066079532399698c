"""What a host was told of its networks, as files: so that the networks can be recorded anew when the store is lost.

One file for each network that has a port here, `<directory>/<network id>.json`, written with each telling and gone with the last
port. Its time is when it was told. Callers hold the network's lock. Must never be read to decide what is to be on the host.
"""

from pathlib import Path

import msgspec

from taskvisor.model.errors import CannotAsk
from taskvisor.model.holdings import NetworkCopy
from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.network import Surroundings


class KeptSurroundings:
    """Those of one host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure_kept(self, around: Surroundings) -> None:
        """The network's file says so. CannotAsk when it can't be written."""
        path, content = self._path(around.network.id), msgspec.json.encode(around)
        try:
            if path.exists() and path.read_bytes() == content:
                return
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path.with_suffix(".new").write_bytes(content)
            path.with_suffix(".new").rename(path)
        except OSError as error:
            raise CannotAsk(f"can't write {path}: {error.strerror}") from error

    def ensure_gone(self, network_id: NetworkId) -> None:
        """The network has no file."""
        path = self._path(network_id)
        for file in (path, path.with_suffix(".new")):
            file.unlink(missing_ok=True)

    def ports_of(self, network_id: NetworkId) -> frozenset[PortId]:
        """The ports of all hosts that the file names. None where there is no file, or none that can be read."""
        try:
            return ports_in(_read(self._path(network_id)))
        except (FileNotFoundError, CannotAsk):
            return frozenset()

    def list_all(self) -> tuple[NetworkCopy, ...]:
        """What is kept, in the order of ids; what can't be read is told as such. CannotAsk when nothing can be listed."""
        try:
            paths = sorted(path for path in self._directory.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise CannotAsk(f"can't list {self._directory}: {error.strerror}") from error
        return tuple(copy for path in paths if (copy := _copy(path)) is not None)

    def _path(self, network_id: NetworkId) -> Path:
        return self._directory / f"{network_id}.json"


def ports_in(around: Surroundings) -> frozenset[PortId]:
    """The ports on the network."""
    return frozenset(member.port_id for member in around.members)


def _copy(path: Path) -> NetworkCopy | None:
    """None when it has gone since it was listed."""
    network_id = NetworkId(path.stem)
    try:
        return NetworkCopy(network_id=network_id, told_at=path.stat().st_mtime, around=_read(path))
    except FileNotFoundError:
        return None
    except CannotAsk as problem:
        return NetworkCopy(network_id=network_id, told_at=0.0, around=None, problem=str(problem))


def _read(path: Path) -> Surroundings:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Surroundings)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.DecodeError) as error:
        raise CannotAsk(f"{path} can't be read: {error}") from error
