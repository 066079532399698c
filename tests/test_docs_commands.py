"""What the pages tell to type is there: commands and options of `taskvisor`, settings, targets of make. Nothing is run here:
that is done by `tests/system/test_typed_commands.py`."""

import re
from typing import Any

import pytest
import typer

from taskvisor.cli.app import app
from taskvisor.settings import Settings
from tests.fixtures.machine import ROOT
from tests.support.pages import CODE, PAGES, Typed, blocks_of, commands_of, name_of, prose_of

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What click's parser raises of an option that is not there; typer has a click of its own."""
ROOT_COMMAND: Any = typer.main.get_command(app)
COMMANDS = [typed for page in PAGES for typed in commands_of(page)]
SETTINGS = {f"TASKVISOR_{name.upper()}" for name in Settings.model_fields}
OF_THE_TESTS = {"TASKVISOR_DEATHS"}
OF_THE_SHELL = {"TASKVISOR_ENV_FILE"}
"""Read before there are settings: it names the file that they are in."""


def what_is_wrong_with(typed: Typed) -> str:
    """Empty, or why the command line is none; nothing of it is run."""
    command = ROOT_COMMAND
    words = list(typed.words)
    path: list[str] = []
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]
        path.append(words.pop(0))
    if not path and words and not words[0].startswith("-"):
        return f"there is no command {words[0]}"
    if getattr(command, "commands", None) and words and not words[0].startswith("-"):
        return f"{' '.join(path)} has no command {words[0]}"
    try:
        given, _, _ = command.make_parser(typer.Context(command, info_name="taskvisor")).parse_args(words)
    except USAGE_ERROR as error:
        return str(error)
    missing = [one.name for one in command.params if one.required and given.get(one.name) in (None, ())]
    return f"{', '.join(missing)} missing" if typed.whole and missing else ""


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 150
    assert len([typed for typed in COMMANDS if typed.whole]) > 30


@pytest.mark.parametrize("typed", sorted(set(COMMANDS), key=str), ids=str)
def test_a_command_line_of_the_pages_is_one_of_ours(typed: Typed) -> None:
    assert what_is_wrong_with(typed) == ""


@pytest.mark.parametrize(
    "words",
    [("lunch", "x"), ("image", "lost"), ("list", "--nonesuch"), ("launch", "x", "--name"), ("reboot",)],
    ids=str,
)
def test_one_that_is_none_is_noticed(words: tuple[str, ...]) -> None:
    assert what_is_wrong_with(Typed(page="here", words=words, whole=True)) != ""


def test_every_command_is_told_of() -> None:
    told = {" ".join(typed.words[:number]) for typed in COMMANDS for number in (1, 2, 3)}

    def all_of(command: Any, path: tuple[str, ...]) -> list[str]:
        below = getattr(command, "commands", {})
        return [found for name, one in below.items() for found in all_of(one, (*path, name))] or [" ".join(path)]

    assert [name for name in all_of(ROOT_COMMAND, ()) if name not in told] == []


def test_every_setting_that_is_named_is_there() -> None:
    named = {
        (name_of(page), name)
        for page in PAGES
        for name in re.findall(r"TASKVISOR_[A-Z0-9_]*[A-Z0-9]\b(?!_)", page.read_text())
    }

    assert {name for _, name in named} >= SETTINGS, "docs/settings.md has them all"
    assert [one for one in sorted(named) if one[1] not in SETTINGS | OF_THE_TESTS | OF_THE_SHELL] == []


def test_every_target_of_make_that_is_named_is_there_and_the_other_way_round() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    pages = [page.read_text() for page in PAGES]
    texts = [
        text for page in pages for text in (*CODE.findall(prose_of(page)), *blocks_of(page, ""), *blocks_of(page, "sh"))
    ]
    named = {target for text in texts for target in re.findall(r"^make ([a-z]+)", text, re.M)}

    assert named - targets == set()
    assert {"demo", "test", "setup", "docs"} <= named
