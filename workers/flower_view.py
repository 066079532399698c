"""How Flower shows a task: its arguments in a few words, the instance first, and beside a failure its class and message.

What is searched in is the task as it was told, so what is left out here is found all the same. Must never fail for what a message
says: a text that is not understood is shown as it is.
"""

import ast
import re
from typing import Any

SHOWN_LIMIT = 120
"""Characters of a cell: more makes a table unreadable. The page of a task has its own lines."""
LEFT_OUT = frozenset({"operation"})
"""Of a step's arguments: the id leads the task's own page (root), and fills the column."""
SUBJECTS = ("instance", "name")
ONE_TEXT = re.compile(r"""(?P<kind>\w+)\((?P<quote>['"])(?P<text>.*)(?P=quote),?\)""", re.DOTALL)
FIELDS_LIMIT = 3


def shown(task: Any) -> Any:
    """The copy of a task that Flower gives, made readable."""
    task.kwargs = arguments_shown(task.kwargs)
    if task.exception:
        task.result = _cut(_error_shown(str(task.exception)))
    elif task.result:
        task.result = "" if task.result == "None" else _cut(_unquoted(str(task.result)))
    return task


def arguments_shown(kwargs: object) -> object:
    """`web1, image=debian-12, flavor=c1-m128-d1` for the repr of a task's keyword arguments."""
    if not isinstance(kwargs, str):
        return kwargs
    try:
        fields = ast.literal_eval(kwargs)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _cut(kwargs)  # cut off by Celery, or no arguments at all
    if not isinstance(fields, dict):
        return _cut(kwargs)
    subject = next((fields[word] for word in SUBJECTS if isinstance(fields.get(word), str)), None)
    others = [
        f"{word}={_short(value)}" for word, value in fields.items() if word not in LEFT_OUT and value is not subject
    ]
    return _cut(", ".join([*([subject] if subject else []), *others]))


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "-".join(f"{word}:{inner}" for word, inner in list(value.items())[:FIELDS_LIMIT])
    return str(value)


def _error_shown(text: str) -> str:
    """`Refused: there is no image` for the repr of an exception with one text; another text as it is."""
    found = ONE_TEXT.fullmatch(text)
    return text if found is None else f"{found['kind']}: {found['text']}"


def _unquoted(text: str) -> str:
    """The repr of a text, as the text."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_LIMIT else text[: SHOWN_LIMIT - 1] + "…"
