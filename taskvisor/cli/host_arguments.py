"""What the commands about a host take: its name, a reason, a length of time; and who asks."""

import getpass
import re
import socket
from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.records import complete_host

HostArgument = Annotated[str, typer.Argument(metavar="HOST", autocompletion=complete_host)]
ReasonOption = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; others read it wherever it matters.")]
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_length_s(text: str) -> int:
    """`90s`, `15m`, `2h`, `1d12h`. UsageError for anything else, and for what is no time ahead."""
    parts = re.findall(r"(\d{1,9})([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"--deadline {text!r}: must be a length of time from now, like 90s, 15m, 2h or 1d12h")
    length_s = sum(int(number) * UNITS_S[unit] for number, unit in parts)
    if length_s == 0:
        raise UsageError(f"--deadline {text!r}: must lie ahead: at least 1s")
    return length_s


def who_asks() -> str:
    """The user and the machine, as they call themselves."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = "?"
    return f"{user}@{socket.gethostname()}"[:255]


def labels_for(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """What is typed as KEY=VALUE, KEY (no value) and KEY-: those to give, and the keys of those to take away."""
    given: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and word.endswith("-"):
            removed.append(word.removesuffix("-"))
        elif key in given:
            raise UsageError(f"{key}: is given twice")
        else:
            given[key] = value
    return given, removed
