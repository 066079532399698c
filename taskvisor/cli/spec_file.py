"""`taskvisor launch --spec FILE`: requests written down, as YAML or JSON, one a document. Reads and checks; sends nothing.

`-f` is the format of what is shown, here as everywhere; what is read is named by a long option, so that neither can be taken for
the other. JSON is read as YAML, of which it is a part (YAML 1.2 §1.3). Errors name the document, the field and the rule.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from taskvisor.cli.arguments import image_for
from taskvisor.cli.exits import UsageError
from taskvisor.model.errors import Refused
from taskvisor.model.flavors import sized_flavor_for
from taskvisor.model.image_url import image_url_for
from taskvisor.model.spec import BuildSpec, parse_spec

FILE_LIMIT_BYTES = 4 * 1024 * 1024
DOCUMENTS_LIMIT = 1000
VALUES_LIMIT = 100_000
"""Aliases stand for what they name again and again: a short text may hold more than any memory."""


def read_specs(source: str) -> list[dict[str, Any]]:
    """The fields of `instance.build`, of each document; `-` is standard input. UsageError for the first that breaks a rule."""
    documents = _documents(_read(source), source)
    if not documents:
        raise UsageError(f"--spec {source}: holds no document")
    fields = [_checked(document, f"--spec {source}, document {number}") for number, document in enumerate(documents, 1)]
    names = [one["name"] for one in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        places = [str(number) for number, name in enumerate(names, 1) if name == twice]
        raise UsageError(f"--spec {source}, documents {' and '.join(places)}: name: {twice!r}: is there twice")
    return fields


def build_spec_for(fields: dict[str, Any]) -> BuildSpec:
    """The spec that these fields are. Refused names the first rule that is broken, of those that need no records."""
    spec = parse_spec(BuildSpec, fields)
    sized_flavor_for(spec.flavor)
    image_url_for(spec.image)
    return spec


def _read(source: str) -> str:
    try:
        if source == "-":
            content = sys.stdin.buffer.read(FILE_LIMIT_BYTES + 1)
        else:
            with Path(source).expanduser().open("rb") as file:
                content = file.read(FILE_LIMIT_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UsageError(f"--spec {source}: can't be read: {why}") from None
    if len(content) > FILE_LIMIT_BYTES:
        raise UsageError(f"--spec {source}: is larger than {FILE_LIMIT_BYTES} bytes")
    return text


def _documents(text: str, source: str) -> list[object]:
    """What the documents hold; empty ones, as behind a last `---`, are left out."""
    found: list[object] = []
    try:
        for document in yaml.safe_load_all(text):
            if len(found) == DOCUMENTS_LIMIT:
                raise UsageError(f"--spec {source}: holds more than {DOCUMENTS_LIMIT} documents")
            if document is not None:
                found.append(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(
            f"--spec {source}{where}: is neither YAML nor JSON: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that there is not
        said = str(error).partition("\n")[0]
        raise UsageError(f"--spec {source}: is neither YAML nor JSON: {said or 'it nests too deeply'}") from None
    return found


def _checked(document: object, where: str) -> dict[str, Any]:
    if not isinstance(document, Mapping) or not all(isinstance(key, str) for key in document):
        raise UsageError(f"{where}: must be fields with values, like `name: web-1`")
    _require_small(document, where)
    fields = dict(document)
    if isinstance(fields.get("image"), str):
        fields["image"] = image_for(fields["image"])
    try:
        build_spec_for(fields)
    except Refused as refused:
        raise UsageError(f"{where}: {refused}") from None
    return cast("dict[str, Any]", fields)


def _require_small(document: object, where: str) -> None:
    """Counts what the document comes to with its aliases followed, and gives up early."""
    waiting, count = [document], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > VALUES_LIMIT:
            raise UsageError(f"{where}: comes to more than {VALUES_LIMIT} values; do its aliases hold themselves?")
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
