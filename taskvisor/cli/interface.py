"""`taskvisor interface`: NICs are attached to instances, detached from them, and listed."""

from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Name, TurnOption
from taskvisor.cli.nics import NIC_HELP, nic_for
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_json, show_table
from taskvisor.cli.requesting import request_one, require_sense
from taskvisor.model.interface_spec import AttachInterfaceSpec
from taskvisor.model.network import Port
from taskvisor.model.records import Instance
from taskvisor.model.view import port_view

app = typer.Typer(help="NICs of instances.", no_args_is_help=True)


@app.command()
def attach(
    name: Name,
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK[,KEY=VALUE..]", help=f"The network, and what more is wanted of the NIC: {NIC_HELP}."
        ),
    ],
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Attach a NIC to an instance, running or not. A guest that runs sees it at once."""
    nic = nic_for(network, "NETWORK")
    require_sense(AttachInterfaceSpec, {"instance": name, "interface": nic if isinstance(nic, str) else dict(nic)})
    request_one(
        "attach_interface",
        name,
        lambda client, subject, request_id: client.attach_interface(
            subject, nic, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def detach(
    name: Name,
    interface: Annotated[str, typer.Argument(metavar="MAC|ADDRESS|PORT", help="Which of its NICs.")],
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Detach a NIC. A running guest must let go of it; its addresses are free then."""
    request_one(
        "detach_interface",
        name,
        lambda client, subject, request_id: client.detach_interface(
            subject, interface, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("list")
def list_interfaces(name: Name, form: FormatOption = Format.TABLE) -> None:
    """List the NICs of an instance."""
    with open_records(settings_or_usage_error()) as records:
        instance: Instance = records.find_instance(name)
    if form is Format.JSON:
        show_json([port_view(port) for port in instance.ports])
        return
    columns = ("NIC", "NETWORK", "MAC", "ADDRESSES", "PORT")
    show_table(columns, map(_row, instance.ports), empty=f"{instance.name} has no NICs.")


def _row(port: Port) -> tuple[str, ...]:
    return (str(port.index), port.network, port.mac, " ".join(port.addresses), port.id)
