"""What the kernel's refusals become, of links and of looks at them: errno to error, in one table."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError

_FORBIDDEN = (errno.EPERM, errno.EACCES)
_REFUSALS: Mapping[int | None, tuple[type[TaskvisorError], str]] = {
    errno.EINVAL: (Refused, "the kernel does not take the value ({error})"),
    errno.ERANGE: (Refused, "the kernel does not take the value ({error})"),
    errno.EADDRNOTAVAIL: (Refused, "the kernel does not take the value ({error})"),
    errno.EOPNOTSUPP: (DoesNotFit, "this kernel can't ({error}); load its module (see lsmod), or use another host"),
    errno.EBUSY: (Retryable, "the kernel is busy with it ({error}); it is tried again"),
    errno.ENOSPC: (DoesNotFit, "the kernel has no room for more ({error}); use another host"),
}
"""What a change that the kernel did not make becomes, by the errno that it gave. All others are tried again."""
DUMP_TRIES = 5
T = TypeVar("T")


@contextmanager
def looking(what: str) -> Iterator[None]:
    """Translates the errors of a look: DoesNotFit when this process may not, else CannotAsk."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise asked(error, what) from error


def dumped(dump: Callable[[], list[T]], what: str) -> list[T]:
    """A dump of pyroute2's that was not disturbed: the kernel marks one during which links came or went (NLM_F_DUMP_INTR)."""
    for _ in range(DUMP_TRIES):
        with looking(what):
            try:
                return dump()
            except NetlinkDumpInterrupted:
                continue
    raise CannotAsk(f"can't {what}: links changed during each of {DUMP_TRIES} looks; try again")


@contextmanager
def changing(what: str, *, harmless: int | None = None) -> Iterator[None]:
    """Translates the errors of a change; `harmless` is the code which says that it is so already."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        code = _code_of(error)
        if code == harmless:
            return
        if code in _FORBIDDEN:
            raise _forbidden(what) from error
        reaction, text = _REFUSALS.get(code, (Retryable, "{error}"))
        raise reaction(f"can't {what}: {text.format(error=error)}") from error


def asked(error: NetlinkError | OSError, what: str) -> DoesNotFit | CannotAsk:
    """The error of a look that failed."""
    if _code_of(error) in _FORBIDDEN:
        return _forbidden(what)
    return CannotAsk(f"can't {what}: {error}; whether it is there is not known")


def _forbidden(what: str) -> DoesNotFit:
    return DoesNotFit(f"can't {what}: this process lacks CAP_NET_ADMIN; run the worker as root or grant it")


def _code_of(error: NetlinkError | OSError) -> int | None:
    code: int | None = error.code if isinstance(error, NetlinkError) else error.errno
    return code
