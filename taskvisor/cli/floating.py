"""`taskvisor floating`: outer addresses are registered, bound to guests' ports, and released."""

from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_json, show_table
from taskvisor.cli.requesting import request_each, request_one
from taskvisor.model.network_view import floating_view

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The floating address.")]
Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Floating addresses.")]

app = typer.Typer(help="Outer addresses that are translated, one to one, to guests'.", no_args_is_help=True)


@app.command("list")
def list_floating(form: FormatOption = Format.TABLE) -> None:
    """List floating addresses, and whose they are."""
    with open_records(settings_or_usage_error()) as records:
        found = records.floating.list()
        owners = {port.id: (one.name, port.address) for one in records.catalog.list_instances() for port in one.ports}
    if form is Format.JSON:
        show_json([floating_view(floating) for floating in found])
        return
    rows = ((one.address, *(owners.get(one.port_id, ("?", "?")) if one.port_id else ("-", "-"))) for one in found)
    empty = "No floating addresses. `taskvisor floating create` registers one."
    show_table(("ADDRESS", "INSTANCE", "PORT"), sorted(rows), empty=empty)


@app.command()
def create(
    addresses: Addresses,
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
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take addresses from the ports that have them. Exits with 3 when none was bound."""
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
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete addresses that are bound to nothing. Exits with 3 when none of them was there."""
    request_each(
        "floating delete",
        addresses,
        lambda client, subject, request_id: client.delete_floating(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
