"""`taskvisor floating`: outer addresses are registered, bound to guests' ports, and released."""

from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.prospects import DryRunOption, deletion_of_floating, end_with_prospects, release_of_floating
from taskvisor.cli.records import complete_floating, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows
from taskvisor.cli.requesting import request_each, request_one
from taskvisor.model.network_view import floating_view

AddressArgument = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="The floating address, or its id.", autocompletion=complete_floating)
]
Addresses = Annotated[
    list[str],
    typer.Argument(metavar="ADDRESS...", help="Floating addresses, or their ids.", autocompletion=complete_floating),
]
NewAddresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Floating addresses.")]

app = typer.Typer(help="Outer addresses that are translated, one to one, to guests'.", no_args_is_help=True)


@app.command("list")
def list_floating(form: FormatOption = Format.TABLE) -> None:
    """List floating addresses, and whose they are."""
    with open_records(settings_or_usage_error()) as records:
        found = records.floating.list()
        owners = {port.id: (one.name, port.address) for one in records.catalog.list_instances() for port in one.ports}
    found = tuple(sorted(found, key=lambda one: one.address))
    rows = ((one.address, *(owners.get(one.port_id, ("?", "?")) if one.port_id else ("-", "-"))) for one in found)
    empty = "No floating addresses. `taskvisor floating create` registers one."
    show_rows(form, ("ADDRESS", "INSTANCE", "PORT"), rows, map(floating_view, found), empty=empty)


@app.command()
def create(
    addresses: NewAddresses,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Register addresses that are routed to the hosts. Exits with 3 when all of them are there already."""
    request_each(
        "floating create",
        addresses,
        lambda client, subject, request_id: client.create_floating(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def bind(
    address: AddressArgument,
    name: Name,
    port: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Which NIC: its address, MAC or id; needed when it has several."),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Bind an address to a NIC of an instance, on a nat or routed network. Exits with 3 when it is bound there already."""
    request_one(
        "floating bind",
        address,
        lambda client, subject, request_id: client.bind_floating(subject, name, port=port, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def release(
    addresses: Addresses,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take addresses from the ports that have them. Exits with 3 when none was bound."""
    if dry_run:
        end_with_prospects(addresses, release_of_floating, form)
    request_each(
        "floating release",
        addresses,
        lambda client, subject, request_id: client.release_floating(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    addresses: Addresses,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete addresses that are bound to nothing. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(addresses, deletion_of_floating, form)
    request_each(
        "floating delete",
        addresses,
        lambda client, subject, request_id: client.delete_floating(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
