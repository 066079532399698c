"""What each filtered port's filters follow from, as a file: so that they can be made again when somebody has flushed them.

One file for each port, `<directory>/<tap>.json`. It is written before the filters are set and goes after they are gone, so a port
that has filters has a file. A file is whole or not there.
"""

from pathlib import Path

import msgspec

from net.filters.port_rules import PortRules
from taskvisor.model.errors import CannotAsk


def ensure_remembered(directory: Path, port: PortRules) -> None:
    """The port's file says so. CannotAsk when it can't be read or written."""
    if read_remembered(directory, port.tap) == port:
        return
    path = _path(directory, port.tap)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        path.with_suffix(".new").write_bytes(msgspec.json.encode(port))
        path.with_suffix(".new").rename(path)
    except OSError as error:
        raise CannotAsk(f"can't write {path}: {error.strerror}; the filters of {port.tap} were not changed") from error


def ensure_forgotten(directory: Path, tap: str) -> None:
    """The port has no file."""
    path = _path(directory, tap)
    for file in (path, path.with_suffix(".new")):
        file.unlink(missing_ok=True)


def read_remembered(directory: Path, tap: str) -> PortRules | None:
    """What the port's file says; None when it has none. CannotAsk when it can't be read."""
    path = _path(directory, tap)
    try:
        return msgspec.json.decode(path.read_bytes(), type=PortRules)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CannotAsk(f"can't read {path}: {error}; remove it and plug the port again") from error


def _path(directory: Path, tap: str) -> Path:
    return directory / f"{tap}.json"
