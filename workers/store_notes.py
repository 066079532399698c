"""What a host remembers of its store, in `store.json` below its state directory. Implements the port `StoreNotes`."""

from pathlib import Path

import msgspec

from taskvisor.model.errors import CannotAsk
from taskvisor.model.orphan import StoreMemory
from virt.durable import write_durably


class StoreNotesFile:
    """One host's file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> StoreMemory | None:
        """None when there is none, or none that this version can read: then the store is seen for the first time."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=StoreMemory)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise CannotAsk(f"cannot read {self._path}: {error.strerror}") from error

    def write(self, memory: StoreMemory) -> None:
        try:
            write_durably(self._path, msgspec.json.encode(memory))
        except OSError as error:
            raise CannotAsk(f"cannot write {self._path}: {error.strerror}") from error
