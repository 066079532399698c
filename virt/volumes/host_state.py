"""What the kernel and the disk of this host say that several kinds of places ask for."""

import hashlib
import re
from pathlib import Path
from typing import Protocol

from taskvisor.model.errors import CannotAsk

MOUNTINFO = Path("/proc/self/mountinfo")
BY_PATH = Path("/dev/disk/by-path")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Run(Protocol):
    """Runs a program to its end, as `virt.command.run_command` does."""

    def __call__(self, argv: list[str], *, time_limit_s: float) -> str: ...


def digest_of(text: str) -> str:
    """A file name for any text: 128 bits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_mount(mountinfo: Path, point: Path) -> str | None:
    """What is mounted at `point` (the last, if several are); None when nothing is. CannotAsk when the kernel does not say."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError as error:
        raise CannotAsk(f"cannot read what is mounted ({mountinfo}): {error.strerror}") from error
    found = None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if _unescaped(fields.split(" ")[4]) == str(point):
            found = _unescaped(rest.split(" ")[1])
    return found


def _unescaped(text: str) -> str:
    # Space, tab, newline and backslash are written in octal (proc_pid_mountinfo(5)).
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
