"""`taskvisor aggregate`: sets of hosts with properties, by which placement tells them apart; one property makes them a zone."""

from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.host_arguments import HostArgument, labels_for
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.prospects import DryRunOption, deletion_of_aggregate, end_with_prospects
from taskvisor.cli.records import complete_aggregate, complete_host, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record, show_rows
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.model.aggregate import ZONE, Aggregate
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_spec import AggregateSpec, SetAggregateSpec
from taskvisor.model.fleet_views import aggregate_view

AggregateArgument = Annotated[str, typer.Argument(metavar="AGGREGATE", autocompletion=complete_aggregate)]
WORDS = typer.Argument(metavar="KEY=VALUE|KEY-...", help="KEY- takes that property away.")

app = typer.Typer(help="Aggregates: sets of hosts, and zones.", no_args_is_help=True)


@app.command("list")
def list_aggregates(form: FormatOption = Format.TABLE) -> None:
    """List aggregates."""
    with open_records(settings_or_usage_error()) as records:
        found = records.aggregates.read().aggregates
    views = [aggregate_view(aggregate) for aggregate in found]
    rows = ((one.name, one.zone or "-", str(len(one.hosts)), _properties_text(one)) for one in found)
    show_rows(form, ("NAME", "ZONE", "#HOSTS", "PROPERTIES"), rows, views, empty="No aggregates: all hosts are alike.")


@app.command()
def show(aggregate: AggregateArgument, form: FormatOption = Format.TABLE) -> None:
    """Show an aggregate."""
    with open_records(settings_or_usage_error()) as records:
        found = records.aggregates.read().find(aggregate)
    if found is None:
        raise Refused(f"there is no aggregate {aggregate!r}; see `taskvisor aggregate list`")
    hosts = ", ".join(found.hosts) or "none"
    fields = (
        ("Name", found.name),
        ("Zone", found.zone or "-"),
        ("Hosts", hosts),
        ("Properties", _properties_text(found)),
    )
    show_record(form, fields, aggregate_view(found))


def _properties_text(aggregate: Aggregate) -> str:
    others = (f"{key}={value}" for key, value in sorted(aggregate.properties.items()) if key != ZONE)
    return ", ".join(others) or "-"


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    properties: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE...]")] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A host of it; repeated.", autocompletion=complete_host)
    ] = None,
    zone: Annotated[str | None, typer.Option(help="The zone that its hosts are.")] = None,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make an aggregate. Exits with 3 when it is there already."""
    given, removed = labels_for(properties or [])
    if removed:
        raise UsageError(f"{removed[0]}-: a new aggregate has no properties to take away")
    if zone is not None:
        given[ZONE] = zone
    require_sense(AggregateSpec, {"name": name, "hosts": host or [], "properties": given})
    request_one(
        "aggregate create",
        name,
        lambda client, subject, request_id: client.create_aggregate(
            subject, hosts=host or [], properties=given, operation_id=request_id
        ),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("set")
def set_properties(
    aggregate: AggregateArgument,
    properties: Annotated[list[str], WORDS],
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Give an aggregate properties, or take some away; availability_zone=NAME makes its hosts a zone."""
    given, removed = labels_for(properties)
    require_sense(SetAggregateSpec, {"aggregate": aggregate, "properties": given, "remove": removed})
    request_one(
        "aggregate set",
        aggregate,
        lambda client, subject, request_id: client.set_aggregate(
            subject, given, remove=removed, operation_id=request_id
        ),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("add-host")
def add_host(
    aggregate: AggregateArgument,
    host: HostArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Put a host into an aggregate. A host is in one zone at most."""
    request_one(
        "aggregate add-host",
        aggregate,
        lambda client, subject, request_id: client.add_aggregate_host(subject, host, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("remove-host")
def remove_host(
    aggregate: AggregateArgument,
    host: HostArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take a host out of an aggregate. What runs there runs on."""
    request_one(
        "aggregate remove-host",
        aggregate,
        lambda client, subject, request_id: client.remove_aggregate_host(subject, host, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    aggregates: Annotated[list[str], typer.Argument(metavar="AGGREGATE...", autocompletion=complete_aggregate)],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete aggregates that no host is in. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(aggregates, deletion_of_aggregate, form)
    request_each(
        "aggregate delete",
        aggregates,
        lambda client, subject, request_id: client.delete_aggregate(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )
