"""`taskvisor launch`: a new instance. What can be checked here is checked before anything is sent."""

from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired, TypedDict
from uuid import uuid4

import typer

from taskvisor.cli.arguments import (
    flavor_fields_for,
    image_for,
    pairs_for,
    ssh_keys_for,
    user_data_for,
    volume_for,
)
from taskvisor.cli.batch import batch_for, launch_many, launch_specs, require_one
from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S, follow_one, tell_sent
from taskvisor.cli.nics import NIC_HELP, nic_for
from taskvisor.cli.plan import show_plans
from taskvisor.cli.records import (
    Records,
    complete_flavor,
    complete_host,
    complete_image,
    complete_server_group,
    open_client,
    open_records,
    settings_or_usage_error,
)
from taskvisor.cli.render import Format, FormatOption, say_error
from taskvisor.cli.spec_file import build_spec_for, read_specs
from taskvisor.cli.watch import Request
from taskvisor.fields import FlavorFields, NicFields, VolumeFields
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.flavors import sized_flavor_for
from taskvisor.model.ids import OPERATION_ID_RULE, OperationId
from taskvisor.model.records import Flavor
from taskvisor.model.spec import BuildSpec, request_as_now, request_of
from taskvisor.model.states import ImageFormat, SeedKind

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until it has ended, or only send it.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Stop watching after so long; it goes on.")
]
BESIDE_A_SPEC = frozenset({"column", "spec_file", "dry_run", "operation_id", "wait", "timeout", "form"})
FLAVOR_HELP = "A flavor by name or id (`flavor list`), or a size: c1-m512-d1 is 1 CPU, 512 MiB, 1 GiB of disk."
ProjectOption = Annotated[str | None, typer.Option(help="Whose it is: which flavors it may have. Default: default.")]


class LaunchFields(TypedDict):
    """What `instance.build` is asked with."""

    name: str
    image: str
    flavor: str | FlavorFields
    image_sha256: NotRequired[str]
    image_format: NotRequired[str]
    image_properties: NotRequired[dict[str, str]]
    networks: NotRequired[list[str | NicFields]]
    ssh_keys: NotRequired[list[str]]
    user_data: NotRequired[str]
    config_drive: NotRequired[Literal["nocloud", "configdrive", "configdrive-vfat"]]
    metadata: NotRequired[dict[str, str]]
    host: NotRequired[str]
    project: NotRequired[str]
    on_failure: NotRequired[Literal["rollback", "keep"]]
    volumes: NotRequired[list[str | VolumeFields]]
    availability_zone: NotRequired[str]
    server_group: NotRequired[str]
    require_labels: NotRequired[list[str]]
    forbid_labels: NotRequired[list[str]]


def launch(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE",
            help="A path on the host, a file://, http:// or https:// URL, or an image's name.",
            autocompletion=complete_image,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The instance's name; one instance at a time bears it.")
    ] = None,
    spec_file: Annotated[
        str | None,
        typer.Option(
            "--spec",
            metavar="FILE",
            help="Instead of all this: YAML or JSON with the fields of instance.build, one document each; - is standard input.",
        ),
    ] = None,
    flavor: Annotated[
        str, typer.Option("--flavor", "-t", help=FLAVOR_HELP, autocompletion=complete_flavor)
    ] = "m1.tiny",
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,KEY=VALUE..]", help=f"A NIC; may be repeated. Default: default. Keys: {NIC_HELP}."),
    ] = None,
    ssh_key: Annotated[
        list[str] | None, typer.Option(metavar="FILE|KEY", help="A public key, or a file of some; may be repeated.")
    ] = None,
    user_data: Annotated[str | None, typer.Option(metavar="FILE", help="For cloud-init; - is standard input.")] = None,
    config_drive: Annotated[
        SeedKind | None,
        typer.Option(help="How cloud-init is told all this. Default: as the image needs it, or the operator chose."),
    ] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    image_sha256: Annotated[str | None, typer.Option(help="What the image must hash to.")] = None,
    image_format: Annotated[
        ImageFormat | None, typer.Option(help="What the image must be; without it, what it is found to be.")
    ] = None,
    image_property: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY=VALUE", help="What the image needs, like hw_disk_bus=scsi; repeated."),
    ] = None,
    extra_spec: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What more the flavor has, like hw:cpu_policy=shared; repeated."),
    ] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE[,KEY=VALUE..]", help="A volume, as `volume attach` takes it; may be repeated."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Only this host will do.", autocompletion=complete_host)] = None,
    project: ProjectOption = None,
    zone: Annotated[str | None, typer.Option(help="Only hosts of this availability zone will do.")] = None,
    server_group: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="The server group whose member it is, by name or id.",
            autocompletion=complete_server_group,
        ),
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE]", help="Only hosts with this label will do; repeated.")
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE]", help="No host with this label will do; repeated.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="So many, NAME-1, NAME-2, …: all of them or none, but for --min-count.")
    ] = None,
    min_count: Annotated[int | None, typer.Option(min=1, help="With --count: so few will do.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show its host and why, disks, NICs and XML; touch nothing.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="If it fails, leave what was done: `ops retry` goes on from the failed step.")
    ] = False,
    operation_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The operation's id: the same again is the same operation.")
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a new instance and start it; or several, with --count or --spec."""
    if spec_file is not None:
        _require_nothing_beside(context)
        specs = read_specs(spec_file)
        if dry_run:
            raise typer.Exit(show_plans(specs, limit_s=timeout, form=form))
        raise typer.Exit(launch_specs(specs, operation_id, wait=wait, limit_s=timeout, form=form))
    if image is None or name is None:
        raise UsageError("IMAGE and --name say what to make; or --spec FILE, where all of it is written")
    fields = LaunchFields(name=name, image=image_for(image), flavor=flavor)
    if network:
        fields["networks"] = [nic_for(text) for text in network]
    _say_to_guest(fields, ssh_key, user_data, config_drive, metadata)
    _say_of_image(fields, image_sha256, image_format, image_property or [])
    if volume:
        fields["volumes"] = [volume_for(text, "--volume") for text in volume]
    if keep:
        fields["on_failure"] = "keep"
    _say_where(fields, host, project, zone, server_group, require, forbid)
    _say_more_of_flavor(fields, pairs_for(extra_spec or [], "--extra-spec"))
    spec = checked(fields)
    batch = batch_for(count, min_count, operation_id)
    if dry_run:
        require_one(batch)
        raise typer.Exit(show_plans([fields], limit_s=timeout, form=form))
    if batch is not None:
        raise typer.Exit(launch_many(fields, batch, wait=wait, limit_s=timeout, form=form))
    settings = settings_or_usage_error()
    operation_id = operation_id or str(uuid4())
    with open_records(settings) as records, open_client(settings) as client:
        if not _is_known(records, operation_id, spec):
            _flavor_of(records, spec)  # refuses here what the door would
        try:
            client.build(**fields, operation_id=operation_id)
        except CannotAsk as silence:
            say_error(
                str(silence), attempt=f"the same again with --id {operation_id}: it may have been taken all the same"
            )
            raise typer.Exit(ExitCode.FAILED) from None
        request = Request(verb="launch", subject=name, operation_id=operation_id)
        raise typer.Exit(
            follow_one(records, client, request, limit_s=timeout, form=form) if wait else tell_sent([request], form)
        )


def _say_to_guest(
    fields: LaunchFields,
    ssh_key: list[str] | None,
    user_data: str | None,
    config_drive: SeedKind | None,
    metadata: list[str] | None,
) -> None:
    """What cloud-init is told."""
    if ssh_key:
        fields["ssh_keys"] = ssh_keys_for(ssh_key)
    if user_data is not None:
        fields["user_data"] = user_data_for(user_data)
    if config_drive is not None:
        fields["config_drive"] = config_drive.value
    if metadata:
        fields["metadata"] = pairs_for(metadata, "--metadata")


def _require_nothing_beside(context: typer.Context) -> None:
    """A file says all of a request. UsageError when the command line says some of it too: which should count?"""
    said = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in BESIDE_A_SPEC and _is_typed(context, str(parameter.name))
    ]
    if said:
        raise UsageError(f"{said[0]}: goes into the file; --spec is the whole request")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _say_of_image(
    fields: LaunchFields, sha256: str | None, declared: ImageFormat | None, properties: list[str]
) -> None:
    """What is known of an image that is given by path or URL."""
    if sha256 is not None:
        fields["image_sha256"] = sha256.lower()
    if declared is not None:
        fields["image_format"] = declared.value
    if properties:
        fields["image_properties"] = pairs_for(properties, "--property")


def _say_more_of_flavor(fields: LaunchFields, extra_specs: Mapping[str, str]) -> None:
    """With extra specs besides its own a flavor is spelled out."""
    if extra_specs:
        with open_records(settings_or_usage_error()) as records:
            fields["flavor"] = flavor_fields_for(_flavor_of(records, checked(fields)), extra_specs)


def _say_where(
    fields: LaunchFields,
    host: str | None,
    project: str | None,
    zone: str | None,
    server_group: str | None,
    require: list[str] | None,
    forbid: list[str] | None,
) -> None:
    """What leaves placement less to choose from."""
    if host is not None:
        fields["host"] = host
    if project is not None:
        fields["project"] = project
    if zone is not None:
        fields["availability_zone"] = zone
    if server_group is not None:
        fields["server_group"] = server_group
    if require:
        fields["require_labels"] = require
    if forbid:
        fields["forbid_labels"] = forbid


def checked(fields: LaunchFields) -> BuildSpec:
    """The spec that these fields are. UsageError names the first rule that is broken."""
    try:
        return build_spec_for(dict(fields))
    except Refused as refused:
        raise UsageError(str(refused)) from None


def _flavor_of(records: Records, spec: BuildSpec) -> Flavor:
    """The flavor that is asked for. UsageError when there is none such for the project."""
    try:
        return sized_flavor_for(spec.flavor) or records.flavors.find(str(spec.flavor), spec.project).flavor
    except Refused as refused:
        raise UsageError(str(refused)) from None


def _is_known(records: Records, operation_id: str, spec: BuildSpec) -> bool:
    """The very same was asked before. An id that stands for another request is refused here: asked of the door, its answer
    would hide the other's outcome.
    """
    if not OPERATION_ID_RULE.fullmatch(operation_id):
        raise UsageError(f"--id {operation_id!r}: must be 1 to 128 letters, digits or ._:- (a UUID will do)")
    known = records.catalog.read_operation(OperationId(operation_id))
    if known is None:
        return False
    if known.flow != "instance.build" or request_as_now(BuildSpec, known.request) != request_of(spec):
        raise UsageError(
            f"--id {operation_id}: is that of another request ({known.flow} of {known.instance_name}, {known.phase.value});"
            " choose another id"
        )
    return True
