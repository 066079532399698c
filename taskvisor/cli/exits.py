"""How the command ends: exit codes, and which error means which. Knows nothing of how errors are shown."""

from collections.abc import Iterable
from enum import IntEnum

from taskvisor.model.errors import AlreadySo, NoCapacity, Refused, TaskvisorError


class ExitCode(IntEnum):
    """What scripts may rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    ALREADY = 3
    STILL_RUNNING = 4  # its time was up, or the watcher let go; the operation goes on
    NO_CAPACITY = 5


class UsageError(Refused):
    """The command line itself is wrong, or the settings are; nothing was asked of anyone."""


def code_for(error: TaskvisorError) -> ExitCode:
    """The exit code of an error that ended a request or a look-up."""
    if isinstance(error, UsageError):
        return ExitCode.USAGE
    if isinstance(error, AlreadySo):
        return ExitCode.ALREADY
    return ExitCode.NO_CAPACITY if isinstance(error, NoCapacity) else ExitCode.FAILED


def code_of_all(codes: Iterable[ExitCode]) -> ExitCode:
    """One code for several requests: the gravest. ALREADY only when all were so already."""
    seen = set(codes)
    for grave in (ExitCode.USAGE, ExitCode.FAILED, ExitCode.NO_CAPACITY, ExitCode.STILL_RUNNING):
        if grave in seen:
            return grave
    return ExitCode.ALREADY if seen == {ExitCode.ALREADY} else ExitCode.DONE
