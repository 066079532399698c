"""`taskvisor console-log`: what a guest wrote to its serial console. It is a file on the guest's host, read where it lies."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from taskvisor.cli.lifecycle import Names
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.safe_text import safe_text
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.records import Instance
from taskvisor.settings import Settings

READ_LIMIT_BYTES = 8 * 1024 * 1024
LINES_LIMIT = 100_000
NEXT = "\n"


def console_log(
    names: Names,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=LINES_LIMIT, help="So many of the last lines.")
    ] = 1000,
    raw: Annotated[
        bool, typer.Option("--raw", help="As the guest wrote it. What a guest writes can drive your terminal.")
    ] = False,
) -> None:
    """Show the end of instances' console logs; on the instances' host. Of several each has its name above it, as with tail."""
    settings = settings_or_usage_error()
    with open_records(settings) as records:
        found = records.find_instances(names)
    for number, instance in enumerate(found):
        tail = _tail_of(instance, settings, lines)
        if len(found) > 1:
            sys.stdout.write(f"{NEXT if number else ''}==> {instance.name} <==\n")
        _show(tail, raw=raw)


def _tail_of(instance: Instance, settings: Settings, lines: int) -> bytes:
    if instance.host != settings.host:
        raise Refused(
            f"the console log of {instance.name} lies on host {instance.host}, and this is {settings.host};"
            f" run there: taskvisor console-log {instance.name}"
        )
    return read_tail(settings.state_dir / "instances" / instance.id / "console.log", lines)


def _show(tail: bytes, *, raw: bool) -> None:
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(tail)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(safe_text(tail.decode(errors="replace")))


def read_tail(path: Path, lines: int) -> bytes:
    """The last lines of a file, at most READ_LIMIT_BYTES in all. Refused: it is not there; CannotAsk: it can't be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - READ_LIMIT_BYTES))
            content = file.read(READ_LIMIT_BYTES)
    except FileNotFoundError:
        raise Refused(
            f"{path}: there is no console log; was the guest ever started, and is that this host's state_dir?"
        ) from None
    except OSError as error:
        raise CannotAsk(f"{path}: can't be read: {error.strerror}") from error
    return b"".join(content.splitlines(keepends=True)[-lines:])
