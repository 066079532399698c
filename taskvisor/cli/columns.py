"""`-c COL`: which columns of what a command shows are wanted. Knows nothing of what is shown, nor of how it is printed.

The option is added to every command that has `-f`, here and nowhere else, so that none can be without it. It is a matter of the
output alone, like a terminal's width: commands don't hear of it, and what prints asks `wanted_columns`.

A column has two kinds of names: the heading of the table's column (NAME, `MEMORY MiB` as memory_mib), and the field of the record
that `-f json` shows (id, created_at). Both can be asked for in every format; small and capital letters are the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from taskvisor.cli.exits import UsageError

FORMAT_PARAMETER = "form"
_WANTED: ContextVar[tuple[str, ...]] = ContextVar("wanted_columns", default=())


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that is shown: `cells` are its texts under the table's headings, `view` is its record as JSON has it."""

    cells: Mapping[str, str]
    view: Mapping[str, object]


def wanted_columns() -> tuple[str, ...]:
    """What was said by -c, in that order; empty: the columns that a command shows by itself."""
    return _WANTED.get()


def add_column_option(commands: Mapping[str, Any]) -> None:
    """Every command among these, and below them, that takes -f takes -c as well."""
    for command in commands.values():
        add_column_option(getattr(command, "commands", {}))
        names = [parameter.name for parameter in command.params]
        if FORMAT_PARAMETER in names:
            command.params.insert(names.index(FORMAT_PARAMETER) + 1, _column_option())


def texts_of(row: Row, wanted: Sequence[str]) -> tuple[str, ...]:
    """The row as tables and bare values have it: a heading's text, else the record's field. UsageError for what it has not.

    Without wanted columns all of its cells.
    """
    if not wanted:
        return tuple(row.cells.values())
    headings, fields = _by_key(row.cells), _by_key(row.view)
    return tuple(
        row.cells[headings[key]] if key in headings else bare_text(row.view[_found(fields, key, row)])
        for key in map(key_of, wanted)
    )


def values_of(row: Row, wanted: Sequence[str]) -> dict[str, object]:
    """The row as JSON and YAML have it: the record's field as it is, else a heading's text. UsageError for what it has not.

    Without wanted columns all of its record.
    """
    if not wanted:
        return dict(row.view)
    headings, fields = _by_key(row.cells), _by_key(row.view)
    return {
        name: row.view[fields[key_of(name)]]
        if key_of(name) in fields
        else row.cells[_found(headings, key_of(name), row)]
        for name in wanted
    }


def with_columns(row: Row, wanted: Sequence[str]) -> Row:
    """The row, with nothing (`-`, null) in each wanted column that it has not: for what came to less than was asked for."""
    known = {*_by_key(row.cells), *_by_key(row.view)}
    return replace(row, view={**row.view, **{name: None for name in wanted if key_of(name) not in known}})


def bare_text(value: object) -> str:
    """A value as one word where it can be: lists with commas, yes and no, and `-` for what there is not."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={bare_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ",".join(bare_text(one) for one in value)
    return str(value)


def key_of(name: str) -> str:
    """What a heading or a field is known by: small letters, without its mark for numbers, `_` for blanks and hyphens."""
    return "_".join(name.lstrip("#").lower().replace("-", "_").split())


def _by_key(names: Iterable[str]) -> dict[str, str]:
    return {key_of(name): name for name in names}


def _found(names: Mapping[str, str], key: str, row: Row) -> str:
    if key not in names:
        known = dict.fromkeys(map(key_of, (*row.cells, *row.view)))
        raise UsageError(f"-c {key}: there is no such column; there are {', '.join(known)}")
    return names[key]


def _note(columns: list[str] | None) -> list[str] | None:
    _WANTED.set(tuple(columns or ()))
    return columns


def _column_option() -> Any:
    """The parameter, made by typer itself from a command that has no other."""
    alone = typer.Typer(add_completion=False)

    @alone.command()
    def command(
        column: Annotated[
            list[str] | None,
            typer.Option(
                "--column",
                "-c",
                metavar="COL",
                help="Only this column, by its heading or its name in -f json; repeated, in that order.",
                callback=_note,
                expose_value=False,
            ),
        ] = None,
    ) -> None: ...

    (option,) = [one for one in typer.main.get_command(alone).params if one.name == "column"]
    return option
