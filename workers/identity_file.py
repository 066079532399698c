"""`identity.json` in the state directory: who this host is, whole or not there, also after a power cut.

Knows nothing of what it means. Written by whoever is first: both nodes of a host may make it at once.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from taskvisor.model.errors import CannotAsk, UnreadableRecord
from taskvisor.model.identity import IDENTITY_SCHEMA, HostIdentity
from virt.durable import write_durably
from workers.locks import open_lock_within

NAME = "identity.json"
READ_LIMIT_BYTES = 64 * 1024
LOCK_LIMIT_S = 10.0


class Damaged(UnreadableRecord):
    """The file is there and is no identity."""


def path_in(state_dir: Path) -> Path:
    """Where a state directory's is."""
    return state_dir / NAME


def read_identity(state_dir: Path) -> HostIdentity | None:
    """What the file says; None when there is none. Damaged when it is no identity; UnreadableRecord when a newer version wrote
    it; CannotAsk when it can't be read.
    """
    path = path_in(state_dir)
    try:
        with path.open("rb") as file:
            content = file.read(READ_LIMIT_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotAsk(f"cannot read {path}: {error.strerror}; make it readable for the worker") from error
    return _parsed(path, content)


def create_identity(state_dir: Path, identity: HostIdentity) -> HostIdentity:
    """The file is there, and what it says is returned: this identity, or another's who was quicker."""
    with _alone(state_dir):
        found = read_identity(state_dir)
        if found is None:
            write_durably(path_in(state_dir), msgspec.json.encode(identity))
    return found or identity


def replace_identity(state_dir: Path, identity: HostIdentity) -> None:
    """The file says this now, whatever it said before."""
    with _alone(state_dir):
        write_durably(path_in(state_dir), msgspec.json.encode(identity))


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """No other process writes the file. Both nodes of a host are started at once, and each write takes milliseconds."""
    try:
        descriptor = open_lock_within(state_dir / "locks" / "identity.lock", time_limit_s=LOCK_LIMIT_S)
        if descriptor is None:
            raise CannotAsk(f"{path_in(state_dir)} is being written for more than {LOCK_LIMIT_S:g} s; by whom?")
        try:
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CannotAsk(
            f"cannot write {path_in(state_dir)}: {error.strerror}; is the disk full, or read-only?"
        ) from error


def _parsed(path: Path, content: bytes) -> HostIdentity:
    try:
        schema = msgspec.json.decode(content, type=_Stamp).schema
        if schema > IDENTITY_SCHEMA:
            raise UnreadableRecord(
                f"{path} was written by a newer Taskvisor (schema {schema}; this one reads up to {IDENTITY_SCHEMA}):"
                " upgrade this node"
            )
        return msgspec.json.decode(content, type=HostIdentity)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Damaged(f"{path} is no identity of a host: {error}") from error


class _Stamp(msgspec.Struct):
    schema: int
