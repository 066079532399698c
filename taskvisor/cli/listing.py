"""What is there: instances, hosts, images, networks. Reads records and shows them; asks for nothing."""

import time
from itertools import islice
from typing import Annotated

import typer

from taskvisor.cli.history import show_history
from taskvisor.cli.host_state import host_state_text
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.quantities import age_text, bytes_text, time_text
from taskvisor.cli.records import Records, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, say, show_fields, show_json, show_table
from taskvisor.cli.views import host_view, reported_at_of
from taskvisor.model.allowed import state_text
from taskvisor.model.ids import HostName
from taskvisor.model.network import Network
from taskvisor.model.network_view import network_view
from taskvisor.model.records import Host, Image, Instance
from taskvisor.model.view import image_view, instance_view


def list_instances(
    host: Annotated[str | None, typer.Option(help="Only those of this host.")] = None,
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
    if form is Format.JSON:
        show_json([instance_view(instance) for instance in instances])
        return
    columns = ("NAME", "STATE", "ADDRESS", "HOST", "FLAVOR", "AGE", "IMAGE")
    show_table(columns, map(_instance_row, instances), empty="No instances. Make one with `taskvisor launch`.")


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
    name: Name,
    history: Annotated[bool, typer.Option("--history", help="How it came to be in the state that it is in.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show an instance, or the last moves of its states: when, by whom and why."""
    with open_records(settings_or_usage_error()) as records:
        instance = records.find_instance(name)
        moves = records.histories.read(instance.id) if history else ()
    if history:
        show_history(instance, moves, form)
        return
    if form is Format.JSON:
        show_json(instance_view(instance))
        return
    view, flavor = instance_view(instance), instance.flavor
    fields = [
        ("Name", instance.name),
        ("Id", instance.id),
        ("State", state_text(instance)),
        ("Power", instance.power_state.label),
        ("Host", instance.host),
        ("Project", instance.project),
        (
            "Flavor",
            f"{flavor.name}: {flavor.vcpus} CPUs, {flavor.memory_mib} MiB, disk of {flavor.disk_gib or '-'} GiB",
        ),
        ("Image", instance.image_name),
        ("Disks", view["disks"] or "-"),
        *((f"NIC {port.index}", f"{port.address} on {port.network}, {port.mac}") for port in instance.ports),
        *((f"Volume {volume.device or '-'}", f"{volume.source}, {volume.serial}") for volume in instance.volumes),
        *((f"Metadata {key}", value) for key, value in instance.metadata.items()),
        ("Created", time_text(instance.created_at)),
        ("Launched", time_text(instance.launched_at) if instance.launched_at else "-"),
        ("Fault", view["fault"] or "-"),
    ]
    show_fields(fields)


def hosts(form: FormatOption = Format.TABLE) -> None:
    """List hosts, with what is claimed of what may be claimed."""
    with open_records(settings_or_usage_error()) as records:
        found = records.hosts.list_hosts()
    if form is Format.JSON:
        show_json([host_view(host) for host in found])
        return
    columns = ("HOST", "STATE", "#VMS", "#CPUS", "#MEMORY MiB", "#DISK GiB", "TYPE", "REPORTED")
    empty = "No host has ever reported. Start one with `taskvisor worker`, or `taskvisor up` for all on this machine."
    show_table(columns, map(_host_row, found), empty=empty)


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
    if form is Format.JSON:
        show_json([image_view(image) for image in found])
        return
    columns = ("NAME", "#SIZE", "#DISK", "HOST", "AGE", "STATE", "SHA256")
    empty = (
        "No images are registered. `taskvisor image register` and `taskvisor snapshot` make some;"
        " paths and URLs can be launched as they are."
    )
    show_table(columns, map(_image_row, found), empty=empty)


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
    if form is Format.JSON:
        show_json([network_view(network) for network in found])
        return
    columns = ("NAME", "KIND", "CIDR", "GATEWAY", "#MTU", "DHCP", "NAT", "CIDR V6", "SEGMENT")
    show_table(columns, map(_network_row, found), empty="No networks yet. The network `default` is made at first use.")


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
