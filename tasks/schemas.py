"""`python -m tasks.schemas docs/schema`: what requests, results, errors, progress and events look like, for any language.

JSON Schema, draft 2020-12 (https://json-schema.org/draft/2020-12), a file each, made from the models that validate requests and
the types of what is answered. A test holds the files fresh, and the tests of whole nodes hold every request and result to them.

Invariant: a schema never refuses what the door takes. It may take what the door refuses: rules between fields are told there.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from tasks.requests import REQUESTS, Request
from taskvisor.fields import Progress
from taskvisor.model import errors
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.event_entry import EventEntry
from taskvisor.model.outcome import ErrorRecord, OutcomeRecord
from taskvisor.model.queues import COMPUTE_QUEUE

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
"""JSON: it is written to a file, or given to a validator."""

CELERYS_ERRORS = {
    "TaskRevokedError": "The request was not taken before it expired, or was revoked.",
    "WorkerLostError": "A worker process died while it looked at the request, as often as it may: ask again.",
    "TimeLimitExceeded": "The request took longer than the limit that came with it.",
}
"""What Celery itself may answer, besides the classes of ours."""


def schemas() -> dict[str, Schema]:
    """Every file, by its path below docs/schema."""
    files: dict[str, Schema] = {"index.json": _index()}
    for task, request in REQUESTS.items():
        files[_arguments_file(task)] = arguments_schema(task, request)
        files[_result_file(task)] = result_schema(task, request)
    files["error.json"] = _titled("An error, as a result's `result` has it when `status` is FAILURE", _error())
    files["progress.json"] = _titled("Progress, as `result` has it when `status` is PROGRESS", _typed(Progress))
    files["outcome.json"] = _titled("What GET celery-task-meta-ID answers", _outcome())
    files["event.json"] = _titled("An entry of the stream of events", _typed(EventEntry))
    return files


def arguments_schema(task: str, request: Request) -> Schema:
    """Of the keyword arguments, the second part of a message's body."""
    schema = request.takes.model_json_schema(mode="validation")
    kinds = {kind.__name__: kind for kind in _models_in(BaseModel)}
    for name, part in schema.get("$defs", {}).items():
        if name in kinds:
            _describe(part, kinds[name])
    _describe(schema, request.takes)
    return _titled(f"Arguments of {task}", schema)


def result_schema(task: str, request: Request) -> Schema:
    """Of `result` when `status` is SUCCESS. Later versions may say more: pass over fields that you do not know."""
    return _titled(f"Result of {task}", _typed(request.gives))


def files_in(directory: Path) -> dict[str, str]:
    """What is there now: texts by path below the directory."""
    return {str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*.json"))}


def texts() -> dict[str, str]:
    """What should be there."""
    return {path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for path, schema in schemas().items()}


def write_schemas(directory: Path) -> None:
    """The directory holds these files, and no other JSON."""
    wanted = texts()
    for path in files_in(directory).keys() - wanted.keys():
        (directory / path).unlink()
    for path, text in wanted.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)


def _arguments_file(task: str) -> str:
    return f"arguments/{task}.json"


def _result_file(task: str) -> str:
    return f"results/{task}.json"


def _index() -> Schema:
    rows = {
        task: {"queue": COMPUTE_QUEUE, "arguments": _arguments_file(task), "result": _result_file(task)}
        for task in REQUESTS
    }
    shared = {"error": "error.json", "progress": "progress.json", "outcome": "outcome.json", "event": "event.json"}
    return {"tasks": rows, **shared}


def _titled(title: str, schema: Schema) -> Schema:
    return {"$schema": DIALECT, "title": title, **{key: _plain(part) for key, part in schema.items() if key != "title"}}


def _plain(part: Any) -> Any:
    """Without what pydantic and msgspec add for Python's sake, and closed where pydantic forgets to: of a dict whose keys have
    a pattern no other key is taken."""
    if isinstance(part, list):
        return [_plain(one) for one in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _plain(value) for key, value in part.items() if key != "title" or isinstance(value, dict)}
    if isinstance(plain.get("description"), str):
        plain["description"] = _in_json_words(inspect.cleandoc(plain["description"]))
    if "patternProperties" in plain:
        plain.setdefault("additionalProperties", False)
    return plain


def _in_json_words(text: str) -> str:
    for ours, theirs in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return " ".join(text.split())


def _typed(kind: Any) -> Schema:
    """Of a TypedDict, its own part first: readers begin there."""
    schema = msgspec.json.schema(kind)
    parts = schema.pop("$defs")
    whole = dict(parts.pop(schema.pop("$ref").rpartition("/")[2]))
    return {**whole, "$defs": parts} if parts else whole


def _error() -> Schema:
    schema = _typed(ErrorRecord)
    known = {kind.__name__: inspect.getdoc(kind) or "" for kind in _errors_of_ours()} | CELERYS_ERRORS
    closed = [{"const": name, "description": text} for name, text in sorted(known.items())]
    other = {"type": "string", "description": "Any other: a bug of Taskvisor's. Its traceback is beside it."}
    schema["properties"]["exc_type"] = {"anyOf": [*closed, other]}
    return schema


def _errors_of_ours() -> list[type[TaskvisorError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TaskvisorError)]
    return [kind for kind in kinds if kind is not TaskvisorError]


def _outcome() -> Schema:
    """`result` goes by `status`."""
    schema = _typed(OutcomeRecord)
    error = {"$ref": "#/$defs/Error"}
    by_status = {
        "PROGRESS": {"$ref": "#/$defs/Progress"},
        "RETRY": error,
        "SUCCESS": {"type": "object"},
        "FAILURE": error,
        "REVOKED": error,
    }
    schema["properties"]["status"] = {"enum": list(by_status)}
    schema["allOf"] = [
        {"if": {"properties": {"status": {"const": status}}}, "then": {"properties": {"result": result}}}
        for status, result in by_status.items()
    ]
    progress = _typed(Progress)
    return {**schema, "$defs": {"Error": _error(), "Progress": progress, **progress.pop("$defs", {})}}


def _models_in(kind: type[BaseModel]) -> list[type[BaseModel]]:
    return [found for below in kind.__subclasses__() for found in (below, *_models_in(below))]


def _describe(schema: Schema, kind: type[BaseModel]) -> None:
    """What the code says under a field is its description: pydantic can read that too, but only where models are made, in
    every process that starts."""
    for field, text in _docstrings_of(kind).items():
        if field in schema.get("properties", {}):
            schema["properties"][field] = {**schema["properties"][field], "description": text}


def _docstrings_of(kind: type) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if issubclass(part, BaseModel) and part is not BaseModel:
            found |= _own_docstrings_of(part)
    return found


def _own_docstrings_of(kind: type) -> dict[str, str]:
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    lines = made.body if isinstance(made, ast.ClassDef) else []
    return {
        field.target.id: text.value.value
        for field, text in pairwise(lines)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
