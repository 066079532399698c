"""How results reach the terminal: tables for people; JSON, YAML and bare values for scripts; errors on stderr.

Knows nothing of what is shown. Commands say what there is, by `show_rows` and `show_record`, and in no other way.

Whatever comes from a record is passed through `safe_text` on its way: a message may quote a stranger. Piped output is never
cut or wrapped: the width of a terminal is nothing to a script. NO_COLOR and TERM=dumb are rich's to honour.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal

import typer
import yaml
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskvisor.cli.column_widths import COLUMN_GAP, column_widths, is_sentence
from taskvisor.cli.columns import Row, key_of, texts_of, values_of, wanted_columns
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
    """`VALUE` is one line a row, bare values with a blank between them, for a shell's loops."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    VALUE = "value"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="A table for people; for scripts all of the record, or bare values.")
]


def out() -> Console:
    """Standard output, as it is now."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Standard error, as it is now: what is told while something goes on, and errors."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(is_terminal: bool, *, stderr: bool) -> Console:
    width = None if is_terminal else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=not is_terminal)


def show_rows(
    form: Format,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    views: Iterable[Mapping[str, object]],
    *,
    empty: str,
) -> None:
    """A list, in the form and the columns that were asked for. `views` are the records of the rows, one each.

    A column whose name begins with "#" holds numbers. As a table the widest gives way first when the terminal is narrow, and
    `empty` is said on standard error when there are no rows. UsageError for a column that there is not.
    """
    whole = [
        Row(cells=dict(zip((name.lstrip("#") for name in columns), cells, strict=True)), view=view)
        for cells, view in zip(rows, views, strict=True)
    ]
    wanted = wanted_columns()
    if form in (Format.JSON, Format.YAML):
        _show_data([values_of(row, wanted) for row in whole], form)
        return
    if form is Format.VALUE:
        for row in whole:
            _show_bare(texts_of(row, wanted))
        return
    cells = [texts_of(row, wanted) for row in whole]
    show_table([_heading(name, columns) for name in wanted] or columns, cells, empty=empty)


def show_record(form: Format, fields: Iterable[tuple[str, str]], view: Mapping[str, object]) -> None:
    """One thing, in the form and the columns that were asked for: names and values; bare values are one line."""
    row, wanted = Row(cells=dict(fields), view=view), wanted_columns()
    if form in (Format.JSON, Format.YAML):
        _show_data(values_of(row, wanted), form)
    elif form is Format.VALUE:
        _show_bare(texts_of(row, wanted))
    else:
        show_fields(zip(wanted or row.cells, texts_of(row, wanted), strict=True))


def shows_all(form: Format) -> bool:
    """Whether a person reads all that there is: then tables may follow what `show_record` has shown."""
    return form is Format.TABLE and not wanted_columns()


def show_as_it_comes(form: Format, cells: Mapping[str, str], view: Mapping[str, object]) -> None:
    """One of a stream, at once: a line for people, or of bare values; as JSON an object a line, as YAML a document."""
    row, wanted = Row(cells=cells, view=view), wanted_columns()
    texts = texts_of(row, wanted)
    if form is Format.JSON:
        value = values_of(row, wanted)
        sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")
    elif form is Format.YAML:
        sys.stdout.write("---\n")
        _show_data(values_of(row, wanted), form)
    elif form is Format.VALUE:
        _show_bare(texts)
    else:
        out().print(Text("  ").join(worded(text) for text in texts if text))
    sys.stdout.flush()


def _show_data(value: object, form: Format) -> None:
    """On standard output, indented, UTF-8. YAML knows no enumerations: what it is given is what JSON makes of it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if form is Format.YAML:
        text = yaml.safe_dump(json.loads(text), allow_unicode=True, sort_keys=False, width=math.inf).rstrip("\n")
    sys.stdout.write(f"{text}\n")


def _show_bare(values: Iterable[str]) -> None:
    sys.stdout.write(" ".join(safe_line(value) or "-" for value in values) + "\n")


def _heading(name: str, columns: Sequence[str]) -> str:
    """As the table has it, with its mark for numbers; a record's field as it was typed."""
    return {key_of(column): column for column in columns}.get(key_of(name), name.upper())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table for people on standard output; `empty` is said on standard error when there are no rows. See `show_rows`."""
    rows = list(rows)
    if not rows:
        err().print(empty)
        return
    _print(table_of(columns, rows, width=out().width))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]], *, width: int) -> Table:
    """The table: no frame, columns two apart, as `docker` and `kubectl` have it, and no wider than that.

    Where it would be, sentences are wrapped between their words, and names end in `…`.
    """
    texts = [[worded(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0), header_style="bold")
    for name, fitting in zip(columns, column_widths(columns, texts, width), strict=True):
        numbers = name.startswith("#")
        justify: Literal["left", "right"] = "right" if numbers else "left"
        table.add_column(name.lstrip("#"), justify=justify, overflow="fold", no_wrap=numbers, width=fitting)
    for row in texts:
        for text in row:
            if not is_sentence(text.plain):
                text.no_wrap, text.overflow = True, "ellipsis"
        table.add_row(*row)
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
