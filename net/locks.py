"""One at a time, between the processes of a host: files locked with flock(2), which dies with its process.

Lock files stay: removing one while another process waits for it would let two in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from taskvisor.model.errors import Busy

WAIT_LIMIT_S = 20.0
POLL_S = 0.005
RETRY_DELAY_S = 1.0


@contextmanager
def ensure_locked(path: Path, what: str) -> Iterator[None]:
    """This process alone is in the block. Busy when another has been for 20 s."""
    lock = FileLock(path, timeout=WAIT_LIMIT_S, poll_interval=POLL_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(f"{what} is being changed by another process (it holds {path})", delay_s=RETRY_DELAY_S) from error
    try:
        yield
    finally:
        lock.release()
