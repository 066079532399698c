"""Who uses which volume on this host, in files named after their owners: written before anything is connected, and removed
after. What is not written here was not connected by us.

users/<digest of target>/<instance>.<digest of source>.json
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from taskvisor.model.errors import Busy, CannotAsk
from taskvisor.model.ids import InstanceId
from virt.durable import ensure_directory, ensure_no_file, write_durably
from virt.volumes.host_state import digest_of

LOCKS = 64
"""Targets share that many locks: a lock file can't be removed without letting two in, so there must not be one a target."""
WAIT_LIMIT_S = 20.0
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class VolumeUser:
    """One instance's use of one volume. `thing` is what the path led to when it was connected; None: not known yet."""

    source: str
    instance_id: InstanceId
    shareable: bool
    thing: str | None = None


class VolumeUsers:
    """The files, below `root`. Making it touches nothing."""

    def __init__(self, root: Path) -> None:
        self._users = root / "users"
        self._locks = root / "locks"

    @contextlib.contextmanager
    def alone_with(self, target: str) -> Iterator[None]:
        """This process alone connects and disconnects the target. Busy when another has been at it for 20 s."""
        ensure_directory(self._locks)
        lock = FileLock(
            self._locks / f"{int(digest_of(target)[:8], 16) % LOCKS}.lock", timeout=WAIT_LIMIT_S, poll_interval=POLL_S
        )
        try:
            lock.acquire()
        except Timeout as error:
            raise Busy(f"another process connects or disconnects {target} on this host", delay_s=2.0) from error
        try:
            yield
        finally:
            lock.release()

    def put(self, target: str, user: VolumeUser) -> None:
        """The use is on record, also after a power cut."""
        directory = self._users / digest_of(target)
        ensure_directory(directory)
        write_durably(directory / _file_name(user.source, user.instance_id), msgspec.json.encode(user))

    def read(self, target: str, source: str, instance_id: InstanceId) -> VolumeUser | None:
        """The use on record; None when there is none."""
        path = self._users / digest_of(target) / _file_name(source, instance_id)
        return _read(path) if path.exists() else None

    def remove(self, target: str, source: str, instance_id: InstanceId) -> None:
        """The use is not on record any more. The target's lock is held."""
        directory = self._users / digest_of(target)
        ensure_no_file(directory / _file_name(source, instance_id))
        with contextlib.suppress(OSError):  # others use the target
            directory.rmdir()

    def list_of(self, target: str) -> tuple[VolumeUser, ...]:
        """Who uses anything of the target."""
        return tuple(_listed((self._users / digest_of(target)).glob("*.json")))

    def list_all(self) -> tuple[VolumeUser, ...]:
        """Every use there is."""
        return tuple(_listed(self._users.glob("*/*.json")))


def _file_name(source: str, instance_id: InstanceId) -> str:
    return f"{instance_id}.{digest_of(source)}.json"


def _listed(paths: Iterator[Path]) -> Iterator[VolumeUser]:
    for path in sorted(paths):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            yield _read(path)


def _read(path: Path) -> VolumeUser:
    try:
        return msgspec.json.decode(path.read_bytes(), type=VolumeUser)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError) as error:
        raise CannotAsk(
            f"cannot tell who uses a volume here: {path} can't be read ({error}); mend or remove it"
        ) from error
