"""`taskvisor volume`: storage that outlives its guests is attached to them, detached, and listed."""

from typing import Annotated

import typer

from taskvisor.cli.arguments import volume_for
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Name, TurnOption
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_json, show_table
from taskvisor.cli.requesting import request_one, require_sense
from taskvisor.model.records import Instance
from taskvisor.model.spec import AttachVolumeSpec
from taskvisor.model.view import volume_view
from taskvisor.model.volume import VolumeAttachment

app = typer.Typer(help="Storage that lives on without its guests.", no_args_is_help=True)


@app.command()
def attach(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE[,KEY=VALUE..]",
            help="file:///path, block:///dev/.., nfs://server/path, iscsi://address/target/lun or rbd://pool/image, and what"
            " more is wanted of it: format=qcow2,device=vdc,serial=..,readonly=yes,cache=none,..",
        ),
    ],
    device: Annotated[str | None, typer.Option(help="Its name in the guest's definition, like vdc.")] = None,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Attach a volume to an instance, running or not. Exits with 3 when it is attached so already."""
    volume = volume_for(source, "SOURCE")
    if device is not None:
        volume["device"] = device
    require_sense(AttachVolumeSpec, {"instance": name, "volume": dict(volume)})
    request_one(
        "attach_volume",
        name,
        lambda client, subject, request_id: client.attach_volume(
            subject, volume, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def detach(
    name: Name,
    volume: Annotated[str, typer.Argument(metavar="SOURCE|SERIAL", help="Which of its volumes.")],
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Detach a volume. A running guest must let go of it: unmount it there first."""
    request_one(
        "detach_volume",
        name,
        lambda client, subject, request_id: client.detach_volume(
            subject, volume, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("list")
def list_volumes(name: Name, form: FormatOption = Format.TABLE) -> None:
    """List the volumes of an instance."""
    with open_records(settings_or_usage_error()) as records:
        instance: Instance = records.find_instance(name)
    if form is Format.JSON:
        show_json([volume_view(volume) for volume in instance.volumes])
        return
    columns = ("DEVICE", "SERIAL", "FORMAT", "HOW", "SOURCE")
    show_table(columns, map(_row, instance.volumes), empty=f"{instance.name} has no volumes.")


def _row(volume: VolumeAttachment) -> tuple[str, ...]:
    tuning = volume.tuning
    how = "read-only" if tuning.readonly else "shared" if tuning.shareable else "alone"
    return (volume.device or "-", volume.serial, volume.format.value, how, volume.source)
