"""Which commands there are, and where each is. A command's module is imported when the command is asked for: all of them take
as long as a short command.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer

from taskvisor.cli.columns import add_column_option

INSTANCES, FLEET, HERE = "Instances", "The fleet", "This machine"


@dataclass(frozen=True)
class Place:
    """`attribute` of a module beside this one is a command, or a group of them. `panel` is where the help lists it."""

    panel: str
    module: str
    attribute: str = "app"


PLACES: Mapping[str, Place] = {
    "launch": Place(INSTANCES, "launch", "launch"),
    "list": Place(INSTANCES, "listing", "list_instances"),
    "show": Place(INSTANCES, "listing", "show"),
    "start": Place(INSTANCES, "lifecycle", "start"),
    "stop": Place(INSTANCES, "lifecycle", "stop"),
    "reboot": Place(INSTANCES, "lifecycle", "reboot"),
    "snapshot": Place(INSTANCES, "lifecycle", "snapshot"),
    "delete": Place(INSTANCES, "lifecycle", "delete"),
    "restore": Place(INSTANCES, "lifecycle", "restore"),
    "volume": Place(INSTANCES, "volume"),
    "interface": Place(INSTANCES, "interface"),
    "ssh": Place(INSTANCES, "ssh", "ssh"),
    "console": Place(INSTANCES, "console", "console"),
    "vnc": Place(INSTANCES, "vnc", "vnc"),
    "console-log": Place(INSTANCES, "console_log", "console_log"),
    "why": Place(INSTANCES, "why", "why"),
    "ops": Place(FLEET, "ops"),
    "top": Place(FLEET, "top", "top"),
    "hosts": Place(FLEET, "listing", "hosts"),
    "host": Place(FLEET, "host"),
    "aggregate": Place(FLEET, "aggregate"),
    "server-group": Place(FLEET, "server_group"),
    "image": Place(FLEET, "image"),
    "images": Place(FLEET, "listing", "images"),
    "networks": Place(FLEET, "listing", "networks"),
    "flavor": Place(FLEET, "flavor"),
    "network": Place(FLEET, "network"),
    "group": Place(FLEET, "group"),
    "floating": Place(FLEET, "floating"),
    "monitor": Place(FLEET, "monitor", "monitor"),
    "ticks": Place(FLEET, "ticks", "ticks"),
    "usage": Place(FLEET, "usage", "usage"),
    "events": Place(FLEET, "events", "events"),
    "webhooks": Place(FLEET, "webhooks"),
    "verify": Place(FLEET, "verify", "verify"),
    "orphans": Place(FLEET, "orphans"),
    "rebuild": Place(FLEET, "rebuild", "rebuild"),
    "up": Place(HERE, "up", "up"),
    "worker": Place(HERE, "worker", "worker"),
    "control": Place(HERE, "services", "control"),
    "beat": Place(HERE, "services", "beat"),
    "flower": Place(HERE, "services", "flower"),
    "preflight": Place(HERE, "preflight", "preflight"),
}


class Commands(Mapping[str, Any]):
    """Typer's commands by their names, each made when it is first looked up."""

    def __getitem__(self, name: str) -> Any:
        return _made(name, PLACES[name])

    def __contains__(self, name: object) -> bool:
        return name in PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)


@cache
def _made(name: str, place: Place) -> Any:
    """By typer itself, of a program that has nothing else."""
    found = getattr(import_module(f"taskvisor.cli.{place.module}"), place.attribute)
    alone = typer.Typer(add_completion=False, callback=lambda: None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, rich_help_panel=place.panel)
    else:
        alone.command(name, rich_help_panel=place.panel)(found)
    made: Any = typer.main.get_command(alone)
    add_column_option(made.commands)
    return made.commands[name]
