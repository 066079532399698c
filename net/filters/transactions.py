"""nftables transactions of this host's worker: one at a time, and counted, so that nobody looks again at what only they changed.

To list the tables costs tens of milliseconds and grows with the ports, and any process of the worker may be the next to change
them. So what a table holds is kept in a file, with the kernel's count of changes (net/filters/generation.py) at which it
held that. As long as the count is the same nobody has changed anything, and no file could say so by itself.

Each committed transaction raises the count by exactly one: if it was n before one of ours and is n + 1 after, nobody else came
in between. The latest unbroken run of these is a file, too. Within a run, what was known still holds, because whoever of us
changes it writes what it holds from then on. That is written *before* the run is made longer, so a process that dies anywhere
breaks the run. Whatever is lost so costs one look, by whoever comes next, and never a wrong belief.

Knows nothing of what tables are for.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from net.command import run_command
from net.filters.generation import Generation, read_generation
from net.locks import ensure_locked
from taskvisor.model.errors import Retryable

log = structlog.get_logger(__name__)

TIME_LIMIT_S = 60.0
DIGEST_CHARS = 16
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Held(Generic[T]):
    """What a table held at that count."""

    at: Generation
    value: T


class Known(Generic[T]):
    """The file that says what a table held; of one process, which reads no content twice. Made by `Transactions.known`."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._kind = kind
        # Other fields, another form: what another version of this program has written is not read.
        self._form = hashlib.sha256(repr(msgspec.inspect.type_info(kind)).encode()).hexdigest()[:DIGEST_CHARS]
        self._head = b""
        self._last: Held[T] | None = None

    def read(self) -> Held[T] | None:
        """As it was written last, by any process; None when that can't be read, which says nothing of the table."""
        try:
            with self._path.open("rb") as file:
                head = file.readline()
                if head != self._head:
                    self._last = self._parsed(head, file.read())
                    self._head = head
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        return self._last

    def write(self, held: Held[T]) -> None:
        """From now on it says so. OSError when it can't be written: it is then as it was."""
        head = f"{self._form} {held.at.count} {held.at.namespace}\n".encode()
        _replace(self._path, head + msgspec.msgpack.encode(held.value))
        self._head, self._last = head, held

    def _parsed(self, head: bytes, content: bytes) -> Held[T] | None:
        form, count, namespace = head.decode().rstrip("\n").split(" ", 2)
        if form != self._form:
            return None
        at = Generation(namespace=namespace, count=int(count))
        return Held(at=at, value=msgspec.msgpack.decode(content, type=self._kind))


class _Run(msgspec.Struct, frozen=True):
    """Counts of one namespace between which every change was ours."""

    namespace: str
    first: int
    last: int


class Transactions:
    """Of all processes that have the same `lock_path`, beside which the files are. Make one in each, after fork."""

    def __init__(self, lock_path: Path) -> None:
        self._lock_path = lock_path
        self._run_path = lock_path.with_name(f"{lock_path.name}.run")

    def locked(self) -> AbstractContextManager[None]:
        """The block alone reads and changes. All other methods are called within. Busy when another has been at it for 20 s."""
        return ensure_locked(self._lock_path, "the firewall of this host")

    def known(self, name: str, kind: type[T]) -> Known[T]:
        """What is known under that name, by all of these processes."""
        return Known(self._lock_path.with_name(f"{self._lock_path.name}.{name}"), kind)

    def read(self, known: Known[T], look: Callable[[], T]) -> Held[T]:
        """What is there now. `look` asks the kernel, when that isn't known; its errors."""
        now = read_generation()  # before the look: a change in between is then seen the next time
        held = known.read()
        if held is not None and self._is_ours_since(held.at, now):
            return Held(at=now, value=held.value)
        looked = Held(at=now, value=look())
        self._remember(known, looked)
        return looked

    def change(self, script: str, known: Known[T], held: Held[T], after: T) -> None:
        """Run the script, one transaction, after which there is `after` if there was `held` before. Retryable when nft fails."""
        run_script(script)
        now = read_generation()
        if now.follows(held.at) and self._remember(known, Held(at=now, value=after)):
            self._note(held.at, now)

    def _is_ours_since(self, seen: Generation, now: Generation) -> bool:
        if seen == now:
            return True
        run = self._read_run()
        if run is None or not run.namespace == seen.namespace == now.namespace:
            return False
        return run.first <= seen.count <= now.count == run.last

    def _note(self, before: Generation, after: Generation) -> None:
        run = self._read_run()
        goes_on = run is not None and (run.namespace, run.last) == (before.namespace, before.count)
        first = run.first if run is not None and goes_on else before.count
        _replace(self._run_path, msgspec.json.encode(_Run(after.namespace, first, after.count)))

    def _read_run(self) -> _Run | None:
        try:
            return msgspec.json.decode(self._run_path.read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return None

    def _remember(self, known: Known[T], held: Held[T]) -> bool:
        try:
            known.write(held)
        except OSError as error:
            log.warning("firewall_not_remembered", reason=str(error))
            return False
        return True


def run_script(script: str) -> None:
    """The kernel has taken the script, whole. Retryable when it has not."""
    ended = run_command(["nft", "-f", "-"], stdin=script, time_limit_s=TIME_LIMIT_S)
    if not ended.ok:
        raise Retryable(f"can't change nftables: {ended}")


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_bytes(content)
    scratch.rename(path)
