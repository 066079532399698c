"""`taskvisor network`: networks are recorded, deleted and shown. What can be checked here is, before it is sent."""

from collections.abc import Iterator
from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.listing import networks
from taskvisor.cli.prospects import DryRunOption, deletion_of_network, end_with_prospects
from taskvisor.cli.records import complete_network, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.fields import NetworkFields, RouteFields
from taskvisor.model.network import Ipv6Mode, Network, NetworkKind
from taskvisor.model.network_spec import NetworkSpec
from taskvisor.model.network_view import network_view

NetworkArgument = Annotated[
    str, typer.Argument(metavar="NETWORK", help="The network, by name or id.", autocompletion=complete_network)
]

app = typer.Typer(help="Networks: what guests' NICs are on.", no_args_is_help=True)
app.command("list")(networks)


@app.command()
def show(network: NetworkArgument, form: FormatOption = Format.TABLE) -> None:
    """Show a network: its segment, its addresses, and what its guests are told."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.find_network(network)
    show_record(form, _fields_of(found), network_view(found))


def _fields_of(network: Network) -> Iterator[tuple[str, str]]:
    yield "Name", network.name
    yield "Id", network.id
    yield "Kind", network.kind.value
    for name, value in (("Segment", network.segment), ("Physical", network.physical), ("Bridge", network.bridge)):
        if value is not None:
            yield name, str(value)
    yield "CIDR", network.cidr
    yield "Gateway", network.gateway
    if network.cidr6 is not None:
        yield "CIDR v6", f"{network.cidr6}, {network.ipv6_mode.value}"
        yield "Gateway v6", network.gateway6 or "-"
    yield "MTU", str(network.mtu)
    yield "DHCP", "yes" if network.dhcp else "no"
    yield "NAT", "yes" if network.nat else "no"
    yield "DNS", ", ".join(network.dns) or "-"
    yield "NTP", ", ".join(network.ntp) or "-"
    yield from (("Route", f"{route.destination} via {route.via}") for route in network.routes)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What guests are launched from then on with.")],
    cidr: Annotated[str, typer.Option(metavar="NET/BITS", help="Its IPv4 addresses, like 10.5.0.0/24.")],
    kind: Annotated[NetworkKind, typer.Option(help="How its segment is made on each host.")] = NetworkKind.NAT,
    gateway: Annotated[str | None, typer.Option(help="Else the first address.")] = None,
    cidr6: Annotated[str | None, typer.Option(metavar="NET/BITS", help="Its IPv6 addresses, like fd00:5::/64.")] = None,
    gateway6: Annotated[str | None, typer.Option(help="Else the first address.")] = None,
    ipv6_mode: Annotated[
        Ipv6Mode | None, typer.Option(help="How guests come by their IPv6 address; else slaac.")
    ] = None,
    segment: Annotated[int | None, typer.Option(help="The VLAN of vlan and ovs, the VNI of vxlan.")] = None,
    physical: Annotated[
        str | None, typer.Option(metavar="NAME", help="The physical network of flat, vlan and macvtap.")
    ] = None,
    bridge: Annotated[str | None, typer.Option(metavar="NAME", help="The bridge of existing and ovs.")] = None,
    mtu: Annotated[int | None, typer.Option(help="Else 1500, less what a tunnel takes.")] = None,
    dhcp: Annotated[bool, typer.Option("--dhcp/--no-dhcp", help="Whether hosts serve DHCP to their guests.")] = True,
    nat: Annotated[
        bool | None, typer.Option("--nat/--no-nat", help="Whether hosts translate; else yes for nat and vxlan.")
    ] = None,
    dns: Annotated[list[str] | None, typer.Option(metavar="IP", help="A server that guests are told of.")] = None,
    ntp: Annotated[list[str] | None, typer.Option(metavar="IP", help="A server that guests are told of.")] = None,
    route: Annotated[
        list[str] | None, typer.Option(metavar="NET=VIA", help="A route that guests are told of; repeated.")
    ] = None,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Record a network. Hosts make what they need of it with their first guest. Exits with 3 when it is there already."""
    asked: dict[str, object] = {
        "cidr": cidr,
        "kind": kind.value,
        "gateway": gateway,
        "cidr6": cidr6,
        "gateway6": gateway6,
        "ipv6_mode": ipv6_mode.value if ipv6_mode else None,
        "segment": segment,
        "physical": physical,
        "bridge": bridge,
        "mtu": mtu,
        "dhcp": None if dhcp else False,
        "nat": nat,
        "dns": dns or None,
        "ntp": ntp or None,
        "routes": [_route_for(text) for text in route or ()] or None,
    }
    fields = NetworkFields(**{key: value for key, value in asked.items() if value is not None})  # type: ignore[typeddict-item]
    require_sense(NetworkSpec, {"name": name, **fields})
    request_one(
        "network create",
        name,
        lambda client, subject, request_id: client.create_network(subject, **fields, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def _route_for(text: str) -> RouteFields:
    destination, equals, via = text.partition("=")
    if not equals or not via:
        raise UsageError(f"--route {text!r}: must be NET=VIA, like 10.9.0.0/16=10.5.0.254")
    return RouteFields(destination=destination, via=via)


@app.command()
def delete(
    names: Annotated[
        list[str], typer.Argument(metavar="NETWORK...", help="By name or id.", autocompletion=complete_network)
    ],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete networks that no port is on. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(names, deletion_of_network, form)
    request_each(
        "network delete",
        names,
        lambda client, subject, request_id: client.delete_network(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
