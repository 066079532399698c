"""`taskvisor interface`: NICs are attached to instances, detached from them, and listed."""

from collections.abc import Mapping
from itertools import starmap
from typing import Annotated

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.lifecycle import Names, TurnOption, who_has
from taskvisor.cli.nics import NIC_HELP, nic_for
from taskvisor.cli.prospects import DryRunOption, detachment_of_interface, end_with_prospects
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows
from taskvisor.cli.requesting import request_some, require_sense
from taskvisor.model.interface_spec import AttachInterfaceSpec
from taskvisor.model.network import Port
from taskvisor.model.records import Instance
from taskvisor.model.view import port_view

app = typer.Typer(help="NICs of instances.", no_args_is_help=True)


@app.command()
def attach(
    names: Names,
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
    require_sense(AttachInterfaceSpec, {"instance": names[0], "interface": nic if isinstance(nic, str) else dict(nic)})
    request_some(
        "attach_interface",
        names,
        lambda client, subject, request_id: client.attach_interface(
            subject, nic, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def detach(
    names: Names,
    interface: Annotated[str, typer.Argument(metavar="MAC|ADDRESS|PORT", help="Which of its NICs.")],
    dry_run: DryRunOption = False,
    wait_turn: TurnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Detach a NIC. A running guest must let go of it; its addresses are free then."""
    if dry_run:
        end_with_prospects(names, detachment_of_interface(interface), form)
    request_some(
        "detach_interface",
        names,
        lambda client, subject, request_id: client.detach_interface(
            subject, interface, wait_turn_s=wait_turn, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("list")
def list_interfaces(names: Names, form: FormatOption = Format.TABLE) -> None:
    """List the NICs of instances."""
    with open_records(settings_or_usage_error()) as records:
        found = records.find_instances(names)
    pairs = [(instance, port) for instance in found for port in instance.ports]
    views: list[Mapping[str, object]] = [{**port_view(port), "instance": instance.name} for instance, port in pairs]
    columns = ("NIC", "NETWORK", "MAC", "ADDRESSES", "PORT", "INSTANCE")
    show_rows(form, columns, starmap(_row, pairs), views, empty=f"{who_has(found)} no NICs.")


def _row(instance: Instance, port: Port) -> tuple[str, ...]:
    return (str(port.index), port.network, port.mac, " ".join(port.addresses), port.id, instance.name)
