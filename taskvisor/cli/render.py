"""How results reach the terminal: tables for people, JSON for scripts, errors on stderr. Knows nothing of what is shown.

Whatever comes from a record is passed through `safe_text` on its way: a message may quote a stranger. Piped output is never
cut or wrapped: the width of a terminal is nothing to a script. NO_COLOR and TERM=dumb are rich's to honour.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Literal

import typer
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskvisor.cli.safe_text import safe_line

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PIPE_WIDTH = 100_000
STYLES = {
    "active": "green",
    "succeeded": "green",
    "up": "green",
    "done": "green",
    "running": "cyan",
    "building": "cyan",
    "rolling_back": "yellow",
    "waiting": "yellow",
    "Busy": "yellow",
    "Retryable": "yellow",
    "CannotAsk": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "error": "red",
    "stuck": "bold red",
    "down": "red",
    "disabled": "yellow",
}
"""Words that bear a colour wherever they stand."""


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="A table for people, or JSON for scripts.")]


def out() -> Console:
    """Standard output, as it is now."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Standard error, as it is now: what is told while something goes on, and errors."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(is_terminal: bool, *, stderr: bool) -> Console:
    width = None if is_terminal else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=not is_terminal)


def show_json(value: object) -> None:
    """The value as JSON on standard output, indented, UTF-8."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table on standard output; `empty` is said on standard error when there are no rows.

    A column whose name begins with "#" holds numbers. The widest gives way first when the terminal is narrow.
    """
    rows = list(rows)
    if not rows:
        err().print(empty)
        return
    _print(table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The table: no frame, columns two apart, as `docker` and `kubectl` have it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        numbers = name.startswith("#")
        justify: Literal["left", "right"] = "right" if numbers else "left"
        title = name.lstrip("#")
        table.add_column(title, justify=justify, overflow="fold", no_wrap=numbers, min_width=len(title))
    for row in rows:
        table.add_row(*(worded(cell) for cell in row))
    return table


def worded(text: str) -> Text:
    """The text, safe, in the colour that its first word bears."""
    safe = safe_line(text)
    return Text(safe, style=STYLES.get(safe.split("/")[0].split(" ")[0], ""))


def shown_id(identity: str) -> str:
    """An id as a column shows it: of a UUID a terminal gets the beginning, which is enough to name it; a pipe gets it all."""
    return identity[:8] if sys.stdout.isatty() and UUID.fullmatch(identity) else identity


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line, on standard output."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(name, worded(value))
    _print(grid)


def _print(table: Table) -> None:
    """The table on standard output, without the blanks that fill its last column up."""
    console = out()
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.splitlines()))


def framed(fields: Iterable[tuple[str, str]], title: str) -> Table:
    """Names and values between two rules: nothing stands beside them that would be copied along."""
    table = Table(box=HORIZONTALS, show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(safe_line(value)))
    return table


def say(sentence: str) -> None:
    """A sentence on standard error, about what the command itself does."""
    err().print(Text(safe_line(sentence)))


def report(sentence: str) -> None:
    """The same from a command that stays, among the logs of what it runs."""
    err().print(Text.assemble(("taskvisor: ", "bold"), safe_line(sentence)))


def say_error(what: str, *, why: str | None = None, attempt: str | None = None) -> None:
    """What failed (and at which step), why, and what to try, on standard error."""
    console = err()
    console.print(Text.assemble(("Error: ", "bold red"), safe_line(what)))
    if why is not None:
        console.print(Text.assemble(("  Why: ", "bold"), safe_line(why)))
    if attempt is not None:
        console.print(Text.assemble(("  Try: ", "bold"), safe_line(attempt)))
