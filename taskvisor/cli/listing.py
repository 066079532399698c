"""What is there: instances, hosts, images, networks. Reads records and shows them; asks for nothing."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.history import show_history
from taskvisor.cli.host_state import host_state_text
from taskvisor.cli.lifecycle import Names
from taskvisor.cli.quantities import age_text, bytes_text, time_text
from taskvisor.cli.records import Records, complete_host, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, out, say, show_record, show_rows, shows_all
from taskvisor.cli.views import host_view, reported_at_of
from taskvisor.model.allowed import state_text
from taskvisor.model.ids import HostName
from taskvisor.model.network import Network
from taskvisor.model.network_view import network_view
from taskvisor.model.records import Host, Image, Instance
from taskvisor.model.view import image_view, instance_view

INSTANCE_COLUMNS = ("NAME", "STATE", "ADDRESS", "HOST", "FLAVOR", "AGE", "IMAGE")


def list_instances(
    host: Annotated[str | None, typer.Option(help="Only those of this host.", autocompletion=complete_host)] = None,
    project: Annotated[str | None, typer.Option(help="Only those of this project.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="No more than so many, the first by name.")
    ] = None,
    after: Annotated[str, typer.Option(metavar="NAME", help="Only those whose names come after it.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """List instances, by name; a page at a time with --limit, and --after the last name of the page before."""
    with open_records(settings_or_usage_error()) as records:
        instances = _page_of(records, HostName(host) if host else None, project, after, limit)
    if limit is not None and len(instances) > limit:
        instances = instances[:limit]
        say(f"There are more: --limit {limit} --after {instances[-1].name}")
    views = [instance_view(instance) for instance in instances]
    show_rows(
        form,
        INSTANCE_COLUMNS,
        map(_instance_row, instances),
        views,
        empty="No instances. Make one with `taskvisor launch`.",
    )


def _page_of(
    records: Records, host: HostName | None, project: str | None, after: str, limit: int | None
) -> tuple[Instance, ...]:
    """One more than the limit, if there is one more."""
    if host is None and project is None and limit is not None:
        return records.catalog.page_instances(after=after, limit=limit + 1)
    fitting = (
        instance
        for instance in records.catalog.list_instances(host)
        if instance.name > after and project in (None, instance.project)
    )
    return tuple(islice(fitting, None if limit is None else limit + 1))


def _instance_row(instance: Instance) -> tuple[str, ...]:
    return (
        instance.name,
        state_text(instance),
        ", ".join(instance.addresses) or "-",
        instance.host,
        instance.flavor.name,
        age_text(time.time() - instance.created_at),
        instance.image_name,
    )


def show(
    names: Names,
    history: Annotated[bool, typer.Option("--history", help="How it came to be in the state that it is in.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show instances, or the last moves of an instance's states: when, by whom and why.

    As JSON and YAML one instance is one object, several are a list.
    """
    if history and len(names) > 1:
        raise UsageError("--history: is shown of one instance at a time")
    with open_records(settings_or_usage_error()) as records:
        found = records.find_instances(names)
        moves = records.histories.read(found[0].id) if history else ()
    if history:
        show_history(found[0], moves, form)
    elif len(found) == 1:
        show_record(form, _fields_of(found[0]), instance_view(found[0]))
    elif shows_all(form):
        for number, instance in enumerate(found):
            if number:
                out().print()
            show_record(form, _fields_of(instance), instance_view(instance))
    else:
        show_rows(form, INSTANCE_COLUMNS, map(_instance_row, found), map(instance_view, found), empty="")


def _fields_of(instance: Instance) -> Iterator[tuple[str, str]]:
    view, flavor = instance_view(instance), instance.flavor
    yield "Name", instance.name
    yield "Id", instance.id
    yield "State", state_text(instance)
    yield "Power", instance.power_state.label
    yield "Host", instance.host
    yield "Project", instance.project
    yield (
        "Flavor",
        f"{flavor.name}: {flavor.vcpus} CPUs, {flavor.memory_mib} MiB, disk of {flavor.disk_gib or '-'} GiB",
    )
    yield "Image", instance.image_name
    yield "Disks", view["disks"] or "-"
    yield from ((f"NIC {port.index}", f"{port.address} on {port.network}, {port.mac}") for port in instance.ports)
    yield from ((f"Volume {one.device or '-'}", f"{one.source}, {one.serial}") for one in instance.volumes)
    yield from ((f"Metadata {key}", value) for key, value in instance.metadata.items())
    yield "Created", time_text(instance.created_at)
    yield "Launched", time_text(instance.launched_at) if instance.launched_at else "-"
    yield "Fault", view["fault"] or "-"


def hosts(form: FormatOption = Format.TABLE) -> None:
    """List hosts, with what is claimed of what may be claimed."""
    with open_records(settings_or_usage_error()) as records:
        found = records.hosts.list_hosts()
    views = [host_view(host) for host in found]
    columns = ("HOST", "STATE", "#VMS", "#CPUS", "#MEMORY MiB", "#DISK GiB", "TYPE", "REPORTED")
    empty = "No host has ever reported. Start one with `taskvisor worker`, or `taskvisor up` for all on this machine."
    show_rows(form, columns, map(_host_row, found), views, empty=empty)


def _host_row(host: Host) -> tuple[str, ...]:
    state = host_state_text(host)
    used, inventory = host.used, host.inventory
    if inventory is None:
        return (host.name, state, str(host.instances), "-", "-", "-", "-", "never")
    limits = inventory.limits
    return (
        host.name,
        state,
        str(host.instances),
        f"{used.vcpus}/{limits.vcpus}",
        f"{used.memory_mib}/{limits.memory_mib}",
        f"{used.disk_gib}/{limits.disk_gib}",
        f"{inventory.virt_type.value} {inventory.arch}",
        f"{age_text(time.time() - (reported_at_of(host) or 0.0))} ago",
    )


def images(form: FormatOption = Format.TABLE) -> None:
    """List registered images. Paths and URLs can be launched without being registered."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.list_images()
    views = [image_view(image) for image in found]
    columns = ("NAME", "#SIZE", "#DISK", "HOST", "AGE", "STATE", "SHA256")
    empty = (
        "No images are registered. `taskvisor image register` and `taskvisor snapshot` make some;"
        " paths and URLs can be launched as they are."
    )
    show_rows(form, columns, map(_image_row, found), views, empty=empty)


def _image_row(image: Image) -> tuple[str, ...]:
    return (
        image.name,
        bytes_text(image.size_bytes) if image.size_bytes else "-",
        bytes_text(image.virtual_bytes) if image.virtual_bytes else "-",
        image.host or "any",
        age_text(time.time() - image.created_at),
        "ready" if image.deletion is None else "deleting",
        image.source.sha256 or "-",
    )


def networks(form: FormatOption = Format.TABLE) -> None:
    """List networks."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.list_networks()
    columns = ("NAME", "KIND", "CIDR", "GATEWAY", "#MTU", "DHCP", "NAT", "CIDR V6", "SEGMENT")
    empty = "No networks yet. The network `default` is made at first use."
    show_rows(form, columns, map(_network_row, found), map(network_view, found), empty=empty)


def _network_row(network: Network) -> tuple[str, ...]:
    segment = (network.physical or network.bridge, None if network.segment is None else str(network.segment))
    return (
        network.name,
        network.kind.value,
        network.cidr,
        network.gateway,
        str(network.mtu),
        "yes" if network.dhcp else "no",
        "yes" if network.nat else "no",
        network.cidr6 or "-",
        " ".join(filter(None, segment)) or "-",
    )
