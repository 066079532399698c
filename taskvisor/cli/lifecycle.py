"""What is asked of instances that are there: delete, reboot, stop, start, snapshot. Several names go at once."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any
from uuid import uuid4

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S, follow_all, follow_one
from taskvisor.cli.launch import TimeoutOption, WaitOption, tell_sent
from taskvisor.cli.records import complete_instance, open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption
from taskvisor.cli.watch import Request
from taskvisor.client import Handle, Taskvisor
from taskvisor.model.errors import CannotAsk
from taskvisor.model.snapshot import Compression, Quiesce, SnapshotMethod

Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Instances, by name or id.", autocompletion=complete_instance)
]
Name = Annotated[str, typer.Argument(help="The instance, by name or id.", autocompletion=complete_instance)]
TurnOption = Annotated[
    int | None,
    typer.Option(
        "--wait-turn",
        min=0,
        max=3600,
        metavar="SECONDS",
        help="If another operation holds it, wait so long for it to end.",
    ),
]


class SnapshotFormat(StrEnum):
    """The formats that a snapshot's image may have."""

    QCOW2 = "qcow2"
    RAW = "raw"


Asking = Callable[[Taskvisor, str, str], Handle[Any]]
"""Asks for one instance, under an operation id."""


def delete(
    names: Names,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete instances, whatever is being done to them. Exits with 3 when none of them was there."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.delete(name, operation_id=operation_id)

    _ask_of_each("delete", names, ask, wait=wait, timeout_s=timeout, form=form)


def start(
    names: Names,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Start instances that are off. Exits with 3 when all of them ran already."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.start(name, wait_turn_s=wait_turn, operation_id=operation_id)

    _ask_of_each("start", names, ask, wait=wait, timeout_s=timeout, form=form)


def stop(
    names: Names,
    shutdown_timeout: Annotated[
        int | None,
        typer.Option(
            "--timeout", min=0, max=3600, metavar="SECONDS", help="Switch off what is not off by then; 0: at once."
        ),
    ] = None,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    wait_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Stop watching after so long; it goes on.")
    ] = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Shut instances down. Exits with 3 when all of them were off already."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.stop(name, timeout_s=shutdown_timeout, wait_turn_s=wait_turn, operation_id=operation_id)

    _ask_of_each("stop", names, ask, wait=wait, timeout_s=wait_timeout, form=form)


def reboot(
    names: Names,
    hard: Annotated[bool, typer.Option("--hard", help="Switch off and on; do not ask the guest.")] = False,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Reboot instances: the guest is asked to shut down, and switched off when it does not."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.reboot(name, type="hard" if hard else "soft", wait_turn_s=wait_turn, operation_id=operation_id)

    _ask_of_each("reboot", names, ask, wait=wait, timeout_s=timeout, form=form)


def snapshot(
    name: Name,
    image: Annotated[str, typer.Argument(help="The name of the image to register.")],
    method: Annotated[
        SnapshotMethod | None,
        typer.Option(help="live: it runs on. cold: its memory is saved, and it goes on when its disk is copied."),
    ] = None,
    quiesce: Annotated[
        Quiesce | None, typer.Option(help="Freeze its file systems for the moment of a live copy, by its agent.")
    ] = None,
    image_format: Annotated[SnapshotFormat | None, typer.Option(help="Of the image; else the host's default.")] = None,
    compression: Annotated[Compression | None, typer.Option(help="Of a qcow2 image; else the host's default.")] = None,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make an image of an instance's root disk as it is now. A running instance goes on."""
    settings, operation_id = settings_or_usage_error(), str(uuid4())
    request = Request(verb="snapshot", subject=name, operation_id=operation_id)
    with open_records(settings) as records, open_client(settings) as client:
        client.snapshot(
            name,
            image,
            method=method.value if method else None,
            quiesce=quiesce.value if quiesce else None,
            format=image_format.value if image_format else None,
            compression=compression.value if compression else None,
            wait_turn_s=wait_turn,
            operation_id=operation_id,
        )
        raise typer.Exit(
            follow_one(records, client, request, limit_s=timeout, form=form) if wait else tell_sent([request], form)
        )


def _ask_of_each(verb: str, names: list[str], ask: Asking, *, wait: bool, timeout_s: float, form: Format) -> None:
    settings = settings_or_usage_error()
    requests = [Request(verb=verb, subject=name, operation_id=str(uuid4())) for name in dict.fromkeys(names)]
    with open_records(settings) as records, open_client(settings) as client:
        _ask_all(client, requests, ask)
        raise typer.Exit(
            follow_all(records, client, requests, limit_s=timeout_s, form=form) if wait else tell_sent(requests, form)
        )


def _ask_all(client: Taskvisor, requests: list[Request], ask: Asking) -> None:
    """Ask for each. When Redis falls silent on the way, those that were asked for are told before the error is."""
    for number, request in enumerate(requests):
        try:
            ask(client, request.subject, request.operation_id)
        except CannotAsk:
            if number:
                tell_sent(requests[:number], Format.TABLE)
            raise
