"""`taskvisor host`: which commands there are about hosts, and those by which an operator says what a host is for.

What the others do is in `host_show`, `host_drain` and `host_operations`.
"""

from typing import Annotated

import typer

from taskvisor.cli import host_drain, host_operations, host_show
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.host_arguments import HostArgument, labels_for
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.records import complete_host
from taskvisor.cli.render import Format, FormatOption
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.model.fleet_spec import LabelHostSpec

HostsArgument = Annotated[list[str], typer.Argument(metavar="HOST...", autocompletion=complete_host)]

app = typer.Typer(
    help="Hosts: what one has, labels, which take new instances; emptied for maintenance, called dead, forgotten.",
    no_args_is_help=True,
)
app.command()(host_show.show)


@app.command()
def enable(
    hosts: HostsArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let hosts take new instances again. Builds that failed there before count no more."""
    request_each(
        "host enable",
        hosts,
        lambda client, subject, request_id: client.enable_host(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def disable(
    hosts: HostsArgument,
    reason: Annotated[str, typer.Option("--reason", help="Shown wherever the host is passed over.")],
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let hosts take no new instances. What runs there runs on."""
    request_each(
        "host disable",
        hosts,
        lambda client, subject, request_id: client.disable_host(subject, reason, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def label(
    host: HostArgument,
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-...", help="KEY- takes that label away.")],
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Give a host labels, or take some away. Exits with 3 when it bears them so already."""
    given, removed = labels_for(labels)
    require_sense(LabelHostSpec, {"host": host, "labels": given, "remove": removed})
    request_one(
        "host label",
        host,
        lambda client, subject, request_id: client.label_host(subject, given, remove=removed, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


app.command()(host_drain.drain)
app.command()(host_drain.undrain)
app.command("force-down")(host_operations.force_down)
app.command()(host_operations.remove)
