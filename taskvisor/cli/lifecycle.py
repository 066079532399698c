"""What is asked of instances that are there: delete, reboot, stop, start, snapshot. Several names go at once."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.prospects import (
    DryRunOption,
    deletion_of_instance,
    end_with_prospects,
    soft_deletion_of_instance,
)
from taskvisor.cli.records import complete_instance
from taskvisor.cli.render import Format, FormatOption
from taskvisor.cli.requesting import request_each, request_some
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.model.records import Instance
from taskvisor.model.snapshot import Compression, Quiesce, SnapshotMethod

Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Instances, by name or id.", autocompletion=complete_instance)
]
NAME_IN_IMAGE = "{name}"
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


def delete(
    names: Names,
    soft: Annotated[
        bool, typer.Option("--soft", help="Switch them off, and keep all that they have for `taskvisor restore`.")
    ] = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete instances, whatever is being done to them. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(names, soft_deletion_of_instance if soft else deletion_of_instance, form)

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        if soft:
            return client.soft_delete(name, operation_id=operation_id)
        return client.delete(name, operation_id=operation_id)

    request_each("soft delete" if soft else "delete", names, ask, wait=wait, limit_s=timeout, form=form)


def restore(
    names: Names,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Bring back instances that were deleted softly; they run again. Exits with 3 when all of them ran already."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.restore(name, wait_turn_s=wait_turn, operation_id=operation_id)

    request_each("restore", names, ask, wait=wait, limit_s=timeout, form=form)


def who_has(instances: Sequence[Instance]) -> str:
    """Begins the sentence that none of these instances has any of something."""
    return f"{instances[0].name} has" if len(instances) == 1 else "None of them has"


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

    request_each("start", names, ask, wait=wait, limit_s=timeout, form=form)


def stop(
    names: Names,
    shutdown_timeout: Annotated[
        int | None,
        typer.Option(
            "--shutdown-timeout",
            min=0,
            max=3600,
            metavar="SECONDS",
            help="Switch off what is not off by then; 0: at once.",
        ),
    ] = None,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Shut instances down. Exits with 3 when all of them were off already."""

    def ask(client: Taskvisor, name: str, operation_id: str) -> Handle[Any]:
        return client.stop(name, timeout_s=shutdown_timeout, wait_turn_s=wait_turn, operation_id=operation_id)

    request_each("stop", names, ask, wait=wait, limit_s=timeout, form=form)


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

    request_each("reboot", names, ask, wait=wait, limit_s=timeout, form=form)


def snapshot(
    names: Names,
    image: Annotated[
        str,
        typer.Argument(
            help="The name of the image to register. Of several instances it holds {name}, as nightly-{name}."
        ),
    ],
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
    if len(dict.fromkeys(names)) > 1 and NAME_IN_IMAGE not in image:
        raise UsageError(f"{image}: one image can't be of several instances; put {NAME_IN_IMAGE} into its name")
    request_some(
        "snapshot",
        names,
        lambda client, subject, request_id: client.snapshot(
            subject,
            image.replace(NAME_IN_IMAGE, subject),
            method=method.value if method else None,
            quiesce=quiesce.value if quiesce else None,
            format=image_format.value if image_format else None,
            compression=compression.value if compression else None,
            wait_turn_s=wait_turn,
            operation_id=request_id,
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
