"""Rules that hold for every command there is, by walking the tree of them. An exception is named here, with its reason."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from taskvisor.cli.app import app
from tests.cli.conftest import Cli

WAITS_FOR_HOSTS = {"verify", "rebuild"}
"""Their --wait is how long hosts have to answer."""
STAYS = {"up", "worker", "beat", "control", "flower", "webhooks run"}
SHOWS_NOTHING = STAYS | {"ssh", "console", "vnc", "console-log", "top", "webhooks forget"}
"""They stay, or show what is no record: a guest's own words, a live picture, a sentence."""
FOLLOWS = {"ops follow"}
"""Watches, and asks for nothing."""
ONE_AT_A_TIME = {
    "ssh": "a terminal is one guest's",
    "console": "a terminal is one guest's",
    "vnc": "a browser's page is one guest's",
    "group set": "groups are its several arguments; a NIC is one guest's",
    "floating bind": "an address is one port's",
}
TAKES_AWAY = {"delete", "detach", "release", "remove"}
PLACES = {"launch", "host drain", "rebuild"}
NOTHING_GOES = {"flavor access remove": "a right goes, and comes back by `flavor access add`"}
REASONS = {"host disable", "host drain", "host force-down", "host remove"}
ASKS = {"host drain", "verify"}
"""Who is at a terminal is asked whether it is meant."""


def commands() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", {})
        for name, one in below.items():
            yield from walk(one, (*path, name))
        if path and (not below or "-f" in options_of(command)):
            yield " ".join(path), command

    return walk(typer.main.get_command(app), ())


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def arguments_of(command: Any) -> dict[str, Any]:
    return {one.metavar or one.name: one for one in command.params if not one.opts[0].startswith("-")}


COMMANDS = dict(commands())
REQUESTS = {
    name
    for name, command in COMMANDS.items()
    if {"--timeout", "--wait"} & options_of(command) and name not in WAITS_FOR_HOSTS | FOLLOWS
}
every = pytest.mark.parametrize("name", sorted(COMMANDS))


def test_there_are_many() -> None:
    assert len(COMMANDS) > 60
    assert {"launch", "delete", "volume detach", "host drain", "flavor access add", "ops cancel"} <= REQUESTS


@every
def test_what_shows_does_so_in_every_form_and_by_column(name: str) -> None:
    has = options_of(COMMANDS[name]) & {"-f", "--format", "-c", "--column"}
    assert has == (set() if name in SHOWS_NOTHING else {"-f", "--format", "-c", "--column"})


@every
def test_no_other_option_is_called_f_or_c(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if {"-f", "-c"} & set(parameter.opts):
            assert set(parameter.opts) & {"--format", "--column"}


@every
def test_what_asks_for_something_can_be_waited_for_or_not_and_for_how_long(name: str) -> None:
    if name in REQUESTS:
        assert {"--wait", "--no-wait", "--timeout"} <= options_of(COMMANDS[name])


@every
def test_what_takes_away_or_places_tells_before_it_does(name: str) -> None:
    if (name.rsplit(maxsplit=1)[-1] in TAKES_AWAY or name in PLACES) and name not in NOTHING_GOES:
        assert "--dry-run" in options_of(COMMANDS[name])


@every
def test_an_operators_act_that_is_recorded_has_a_reason(name: str) -> None:
    assert ("--reason" in options_of(COMMANDS[name])) == (name in REASONS)


@every
def test_who_is_asked_on_a_terminal_can_say_yes_before(name: str) -> None:
    assert ("--yes" in options_of(COMMANDS[name])) == (name in ASKS)


@every
def test_a_command_about_instances_takes_several_and_completes_them(name: str) -> None:
    arguments = arguments_of(COMMANDS[name])
    if "name" in arguments:
        assert name in ONE_AT_A_TIME
        assert arguments["name"]._custom_shell_complete is not None
    if "NAME..." in arguments:
        assert arguments["NAME..."].nargs == -1
        assert arguments["NAME..."]._custom_shell_complete is not None


@every
def test_things_that_are_there_are_completed(name: str) -> None:
    """But of what is made just now, nobody knows the name."""
    if name.rsplit(maxsplit=1)[-1] in ("create", "register"):
        return
    known = {
        "HOST",
        "HOST...",
        "AGGREGATE",
        "AGGREGATE...",
        "IMAGE",
        "IMAGE...",
        "FLAVOR",
        "FLAVOR...",
        "NETWORK",
        "NETWORK...",
    }
    known |= {"GROUP", "GROUP...", "[GROUP...]", "ADDRESS", "ADDRESS...", "HOST|NAME", "ID|NAME"}
    for metavar, argument in arguments_of(COMMANDS[name]).items():
        if metavar in known:
            assert argument._custom_shell_complete is not None, metavar


@every
def test_it_helps_within_eighty_columns(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    result = cli(*name.split(), "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
