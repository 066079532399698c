"""docs/promises.md names tests that there are. Nothing of them is run here."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.fixtures.machine import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
PROMISES = [
    (promise.strip(), held_by)
    for promise, held_by in re.findall(r"^\| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    if promise != "promise"
]


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests that pytest collects from a file: functions of the module, and of its Test classes."""
    return frozenset(_collected(ast.parse(path.read_text()).body))


def _collected(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _collected(node.body)


@pytest.mark.parametrize(("promise", "held_by"), PROMISES, ids=[promise[:60] for promise, _ in PROMISES])
def test_a_promise_is_held_by_tests_that_there_are(promise: str, held_by: str) -> None:
    parts = held_by.split("<br>")
    named = [NAMED.fullmatch(part) for part in parts]
    assert all(named), f"each of {parts} must be `tests/….py::test_…`"

    gone = [
        match.group()
        for match in named
        if match is not None
        and not ((ROOT / match[1]).name.startswith("test_") and match[2] in names_in(ROOT / match[1]))
    ]
    assert gone == [], f"{promise!r} is held by tests that are no more; name others, or write them"


def test_no_line_of_the_page_is_passed_over() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith(("| promise", "|---"))]

    assert len(PROMISES) == len(rows) > 0
    assert sorted(NAMED.findall(PAGE)) == sorted(pair for _, held_by in PROMISES for pair in NAMED.findall(held_by))
