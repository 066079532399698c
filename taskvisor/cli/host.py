"""`taskvisor host`: one host, with all that it says of itself; and what an operator says of hosts."""

from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.host_details import details_of, host_details_view
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.records import complete_host, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_fields, show_json
from taskvisor.cli.requesting import IdOption, request_each, request_one
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_spec import LabelHostSpec
from taskvisor.model.ids import HostName
from taskvisor.model.spec import parse_spec

HostArgument = Annotated[str, typer.Argument(metavar="HOST", autocompletion=complete_host)]
HostsArgument = Annotated[list[str], typer.Argument(metavar="HOST...", autocompletion=complete_host)]

app = typer.Typer(help="Hosts: what one has, which take new instances, and labels.", no_args_is_help=True)


@app.command()
def show(host: HostArgument, form: FormatOption = Format.TABLE) -> None:
    """Show what a host has, what of it is claimed and by whom, and what it says of itself."""
    name = HostName(host)
    with open_records(settings_or_usage_error()) as records:
        found = next((one for one in records.hosts.list_hosts() if one.name == name), None)
        (held,) = records.hosts.list_held([name])
    if found is None:
        raise Refused(f"there is no host {host!r}; see `taskvisor hosts`")
    if form is Format.JSON:
        show_json(host_details_view(found, held))
        return
    show_fields(details_of(found, held))


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
    try:
        parse_spec(LabelHostSpec, {"host": host, "labels": given, "remove": removed})
    except Refused as refused:
        raise UsageError(str(refused)) from None
    request_one(
        "host label",
        host,
        lambda client, subject, request_id: client.label_host(subject, given, remove=removed, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def labels_for(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """What is typed as KEY=VALUE, KEY (no value) and KEY-: those to give, and the keys of those to take away."""
    given: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and word.endswith("-"):
            removed.append(word.removesuffix("-"))
        elif key in given:
            raise UsageError(f"{key}: is given twice")
        else:
            given[key] = value
    return given, removed
