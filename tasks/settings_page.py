"""`python -m tasks.settings_page > docs/settings.md`: every option of the environment, its default, and what it is for.

Read from `taskvisor/settings.py`: an option's docstring there is its row here. A test holds the page fresh.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, get_args

from pydantic.fields import FieldInfo

from taskvisor import settings
from taskvisor.settings import Settings

HEAD = """# Settings

Made by `python -m tasks.settings_page` from `taskvisor/settings.py`; do not edit. Each is a variable of the environment; a file
of such lines may be named by `TASKVISOR_ENV_FILE`, and the environment overrules it. A value that is not allowed is refused at
the start, with the variable and the rule. Units are in the names: `_S` is seconds.

| variable | default | what it is for |
|---|---|---|"""

THIS_MACHINE = {"host": "this machine's host name"}
"""Defaults that are not the same everywhere."""


def settings_page() -> str:
    """The page, in Markdown, with a row for each option."""
    says = read_docstrings()
    rows = (_row(name, field, says[name]) for name, field in sorted(Settings.model_fields.items()))
    return "\n".join((HEAD, *rows)) + "\n"


def read_docstrings() -> Mapping[str, str]:
    """What is said of each option, below it in the source. KeyError of the page means an option of which nothing is said."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(settings)).body
        if isinstance(node, ast.ClassDef) and node.name == Settings.__name__
    )
    return dict(_said(body))


def _said(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for option, text in pairwise(body):
        match option, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, " ".join(said.split())


def _row(name: str, field: FieldInfo, said: str) -> str:
    choices = ", ".join(f"`{word}`" for word in _choices(field.annotation))
    cells = (f"`TASKVISOR_{name.upper()}`", _default(name, field), said + (f" One of {choices}." if choices else ""))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _choices(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(word.value) for word in annotation)
    return tuple(str(word) for word in get_args(annotation))


def _default(name: str, field: FieldInfo) -> str:
    if name in THIS_MACHINE:
        return THIS_MACHINE[name]
    match field.default:
        case bool() as chosen:
            return f"`{str(chosen).lower()}`"
        case float() as number:
            return f"`{number:.15g}`"
        case Enum() as word:
            return f"`{word.value}`"
        case "":
            return "empty"
        case other:
            return f"`{other}`"


if __name__ == "__main__":
    print(settings_page(), end="")
