"""`taskvisor flavor`: sizes of guests are made, deleted, changed and shown. What can be checked here is, before it is sent."""

from collections.abc import Iterator
from typing import Annotated

import typer

from taskvisor.cli.arguments import pairs_for
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.prospects import DryRunOption, deletion_of_flavor, end_with_prospects
from taskvisor.cli.records import complete_flavor, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record, show_rows
from taskvisor.cli.requesting import IdOption, request_each, request_one, require_sense
from taskvisor.fields import NewFlavorFields
from taskvisor.model.flavor_record import FlavorRecord, flavor_view
from taskvisor.model.flavor_spec import FlavorAccessSpec, FlavorCreateSpec, FlavorSetSpec, FlavorUnsetSpec
from taskvisor.model.flavors import unknown_flavor

FlavorArgument = Annotated[
    str, typer.Argument(metavar="FLAVOR", help="The flavor, by name or id.", autocompletion=complete_flavor)
]
PairsArgument = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Extra specs, under Nova's names.")]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT")]

app = typer.Typer(help="Flavors: sizes of guests, by name.", no_args_is_help=True)
access = typer.Typer(help="Which projects may have a private flavor.", no_args_is_help=True)
app.add_typer(access, name="access")


@app.command("list")
def list_flavors(
    project: Annotated[str | None, typer.Option(help="Only those that this project may have.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List flavors. Sizes like c1-m512-d1 need none."""
    with open_records(settings_or_usage_error()) as records:
        found = [one for one in records.flavors.list() if project is None or one.is_for(project)]
    views = [flavor_view(record) for record in found]
    columns = ("NAME", "#CPUS", "#MEMORY MiB", "#DISK GiB", "#SWAP MiB", "#EPHEMERAL GiB", "FOR", "EXTRA SPECS")
    show_rows(
        form,
        columns,
        map(_row, found),
        views,
        empty="No flavors. Sizes like c1-m512-d1 need none; `flavor create` makes one.",
    )


def _row(record: FlavorRecord) -> tuple[str, ...]:
    flavor = record.flavor
    sizes = (flavor.vcpus, flavor.memory_mib, flavor.disk_gib, flavor.swap_mib, flavor.ephemeral_gib)
    specs = " ".join(f"{key}={value}" for key, value in sorted(flavor.extra_specs.items()))
    return (flavor.name, *map(str, sizes), _whose(record), specs or "-")


def _whose(record: FlavorRecord) -> str:
    return "everybody" if record.public else ", ".join(record.projects) or "nobody"


@app.command()
def show(flavor: FlavorArgument, form: FormatOption = Format.TABLE) -> None:
    """Show a flavor."""
    with open_records(settings_or_usage_error()) as records:
        found = records.flavors.look_up(flavor)
    if found is None:
        raise unknown_flavor(flavor)
    show_record(form, _fields_of(found), flavor_view(found))


def _fields_of(record: FlavorRecord) -> Iterator[tuple[str, str]]:
    flavor = record.flavor
    yield "Name", flavor.name
    yield "Id", record.id
    yield "CPUs", str(flavor.vcpus)
    yield "Memory", f"{flavor.memory_mib} MiB"
    yield "Disk", f"{flavor.disk_gib} GiB" if flavor.disk_gib else "as large as the image"
    yield "Swap", f"{flavor.swap_mib} MiB" if flavor.swap_mib else "-"
    yield "Ephemeral", f"{flavor.ephemeral_gib} GiB" if flavor.ephemeral_gib else "-"
    yield "For", _whose(record)
    yield from ((f"Extra spec {key}", value) for key, value in sorted(flavor.extra_specs.items()))


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    vcpus: Annotated[int, typer.Option("--vcpus", help="Virtual CPUs.")],
    memory: Annotated[int, typer.Option("--memory", metavar="MIB")],
    disk: Annotated[int, typer.Option("--disk", metavar="GIB", help="0: as large as the image.")] = 0,
    swap: Annotated[int, typer.Option("--swap", metavar="MIB")] = 0,
    ephemeral: Annotated[int, typer.Option("--ephemeral", metavar="GIB")] = 0,
    extra_spec: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Like hw:cpu_policy=shared; repeated.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only for the projects that are given it.")] = False,
    project: Annotated[list[str] | None, typer.Option(help="May have it, if it is private; repeated.")] = None,
    flavor_id: Annotated[str | None, typer.Option("--flavor-id", help="Its id. Default: one that is made up.")] = None,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Record a flavor. Exits with 3 when it is there already."""
    fields = NewFlavorFields(
        vcpus=vcpus,
        memory_mib=memory,
        disk_gib=disk,
        swap_mib=swap,
        ephemeral_gib=ephemeral,
        extra_specs=pairs_for(extra_spec or [], "--extra-spec"),
        public=not private,
        projects=project or [],
    )
    if flavor_id is not None:
        fields["id"] = flavor_id
    require_sense(FlavorCreateSpec, {"name": name, **fields})
    request_one(
        "flavor create",
        name,
        lambda client, subject, request_id: client.create_flavor(subject, operation_id=request_id, **fields),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    flavors: Annotated[
        list[str], typer.Argument(metavar="FLAVOR...", help="By name or id.", autocompletion=complete_flavor)
    ],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete flavors. Instances that were built with them keep them. Exits with 3 when none of them was there."""
    if dry_run:
        end_with_prospects(flavors, deletion_of_flavor, form)
    request_each(
        "flavor delete",
        flavors,
        lambda client, subject, request_id: client.delete_flavor(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("set")
def set_specs(
    flavor: FlavorArgument,
    pairs: PairsArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Give a flavor these extra specs besides its others. Guests that are there stay as they are."""
    specs = pairs_for(pairs, "KEY=VALUE")
    require_sense(FlavorSetSpec, {"flavor": flavor, "extra_specs": specs})
    request_one(
        "flavor set",
        flavor,
        lambda client, subject, request_id: client.set_flavor(subject, specs, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command("unset")
def unset_specs(
    flavor: FlavorArgument,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Of extra specs.")],
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take extra specs away from a flavor. Guests that are there stay as they are."""
    require_sense(FlavorUnsetSpec, {"flavor": flavor, "keys": keys})
    request_one(
        "flavor unset",
        flavor,
        lambda client, subject, request_id: client.unset_flavor(subject, keys, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@access.command("add")
def add_access(
    flavor: FlavorArgument,
    project: ProjectArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let a project have a private flavor."""
    require_sense(FlavorAccessSpec, {"flavor": flavor, "project": project})
    request_one(
        "flavor access add",
        flavor,
        lambda client, subject, request_id: client.add_flavor_access(subject, project, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@access.command("remove")
def remove_access(
    flavor: FlavorArgument,
    project: ProjectArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let a project have a private flavor no more. What it built with it stays."""
    require_sense(FlavorAccessSpec, {"flavor": flavor, "project": project})
    request_one(
        "flavor access remove",
        flavor,
        lambda client, subject, request_id: client.remove_flavor_access(subject, project, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@access.command("list")
def list_access(flavor: FlavorArgument, form: FormatOption = Format.TABLE) -> None:
    """List the projects that may have a private flavor."""
    with open_records(settings_or_usage_error()) as records:
        found = records.flavors.look_up(flavor)
    if found is None:
        raise unknown_flavor(flavor)
    said = "is public: every project may have it." if found.public else "may be had by no project."
    rows, views = ((one,) for one in found.projects), ({"project": one} for one in found.projects)
    show_rows(form, ("PROJECT",), rows, views, empty=f"{found.flavor.name} {said}")
