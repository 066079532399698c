"""`taskvisor image`: what is registered, and registering and deleting it. What can be checked here is, before it is sent."""

from collections.abc import Iterator
from typing import Annotated, NotRequired, TypedDict

import typer

from taskvisor.cli.arguments import image_for, pairs_for
from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.listing import images
from taskvisor.cli.prospects import DryRunOption, deletion_of_image, end_with_prospects
from taskvisor.cli.quantities import bytes_text, time_text
from taskvisor.cli.records import complete_image, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record
from taskvisor.cli.requesting import request_each, request_one
from taskvisor.model.errors import Refused
from taskvisor.model.image_url import image_url_for
from taskvisor.model.records import Image
from taskvisor.model.spec import ImageSpec, parse_spec
from taskvisor.model.states import ImageFormat
from taskvisor.model.view import image_view

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="The image, by name or id.", autocompletion=complete_image)
]

app = typer.Typer(help="Registered images: names for where guests' disks come from.", no_args_is_help=True)
app.command("list")(images)


class ImageFields(TypedDict):
    """What `image.register` is asked with, in the client's words."""

    sha256: NotRequired[str]
    format: NotRequired[str]
    min_disk_gib: NotRequired[int]
    min_memory_mib: NotRequired[int]
    properties: NotRequired[dict[str, str]]


@app.command()
def show(image: ImageArgument, form: FormatOption = Format.TABLE) -> None:
    """Show an image: where it comes from, what it needs, and what is in the way of its deletion."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.find_image(image)
    if found is None:
        raise Refused(f"there is no image {image!r}; see `taskvisor image list`")
    show_record(form, _fields_of(found), image_view(found))


def _fields_of(image: Image) -> Iterator[tuple[str, str]]:
    view = image_view(image)
    yield "Name", image.name
    yield "Id", image.id
    yield "State", view["state"]
    yield "Source", view["url"]
    yield "SHA-256", view["sha256"] or "-"
    yield "Format", view["format"] or "what it is found to be"
    yield "Size", bytes_text(image.size_bytes) if image.size_bytes else "-"
    yield "Disk", bytes_text(image.virtual_bytes) if image.virtual_bytes else "-"
    yield "Needs", f"{image.min_disk_gib} GiB of disk, {image.min_memory_mib} MiB of memory"
    yield "Host", image.host or "any"
    yield from ((f"Property {key}", value) for key, value in sorted(image.properties.items()))
    yield "Created", time_text(image.created_at)
    if image.deletion is not None:
        yield (
            "Deletion",
            f"asked at {time_text(image.deletion.asked_at)}; its host was asked {image.deletion.sendings}x",
        )
        yield "Problem", image.deletion.problem or "-"


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What guests are launched from then on with.")],
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A path on the hosts, or a file://, http(s)://, glance:// or s3:// URL."),
    ],
    sha256: Annotated[str | None, typer.Option(help="What it must hash to; then no other bytes ever count.")] = None,
    image_format: Annotated[
        ImageFormat | None, typer.Option("--image-format", help="What it must be; else what it is found to be.")
    ] = None,
    min_disk: Annotated[int, typer.Option(min=0, metavar="GIB", help="Smaller disks are refused.")] = 0,
    min_memory: Annotated[int, typer.Option(min=0, metavar="MIB", help="Less memory is refused.")] = 0,
    image_property: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY=VALUE", help="What its guests need, like hw_disk_bus=scsi; repeated."),
    ] = None,
    operation_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The request's id: the same again is the same image.")
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Put an image under a name. Hosts fetch it when a guest is built. Exits with 3 when that image has that name already."""
    fields = ImageFields()
    if sha256 is not None:
        fields["sha256"] = sha256.lower()
    if image_format is not None:
        fields["format"] = image_format.value
    if min_disk:
        fields["min_disk_gib"] = min_disk
    if min_memory:
        fields["min_memory_mib"] = min_memory
    if image_property:
        fields["properties"] = pairs_for(image_property, "--property")
    source = image_for(source)
    _require_sense(name, source, fields)
    request_one(
        "image register",
        name,
        lambda client, subject, request_id: client.register_image(subject, source, **fields, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


@app.command()
def delete(
    names: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Images, by name or id.", autocompletion=complete_image),
    ],
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete images. A snapshot's file goes too, as soon as its host is up; copies in hosts' caches stay until evicted.

    Guests that were built from it stay. Exits with 3 when none of them was there.
    """
    if dry_run:
        end_with_prospects(names, deletion_of_image, form)
    request_each(
        "image delete",
        names,
        lambda client, subject, request_id: client.delete_image(subject, operation_id=request_id),
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def _require_sense(name: str, source: str, fields: ImageFields) -> None:
    """UsageError names the first rule that is broken. Properties are the workers' to read."""
    try:
        parse_spec(ImageSpec, {"name": name, "source": source, **fields})
        url = image_url_for(source, field="source")
    except Refused as refused:
        raise UsageError(str(refused)) from None
    if url is None:
        raise UsageError(f"source: {source!r}: must be a path (as ./{source}) or a URL")
