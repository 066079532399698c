"""Holds what requests and results say to the published schemas (docs/schema), as a producer in another language would."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tasks.requests import REQUESTS
from tests.fixtures.machine import ROOT

PUBLISHED = ROOT / "docs" / "schema"


def require_published_arguments(task: str, fields: object) -> None:
    """AssertionError when the schema refuses what the door has taken."""
    if task in REQUESTS:
        _require(f"arguments/{task}.json", fields)


def require_published_result(task: str, result: object) -> None:
    """AssertionError when a result says what the schema does not, too."""
    if task in REQUESTS:
        _require(f"results/{task}.json", result)


def require_published(path: str, value: object) -> None:
    """The same, of a file of docs/schema."""
    _require(path, value)


def _require(path: str, value: object) -> None:
    problems = [f"{error.json_path}: {error.message}" for error in _validator(path).iter_errors(value)]
    assert not problems, f"docs/schema/{path} refuses what was said: {problems}"


@cache
def _validator(path: str) -> Draft202012Validator:
    return Draft202012Validator(closed(json.loads((PUBLISHED / path).read_text())))


def closed(schema: Any) -> Any:
    """The schema, which takes no field that it does not name: producers pass over such fields, a test must not."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **named} if "required" in schema and "type" in schema else named
