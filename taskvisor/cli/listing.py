"""What is there: instances, hosts, images, networks. Reads records and shows them; asks for nothing."""

import time
from typing import Annotated

import typer

from taskvisor.cli.history import show_history
from taskvisor.cli.lifecycle import Name
from taskvisor.cli.quantities import age_text, bytes_text, time_text
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_fields, show_json, show_table
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
    form: FormatOption = Format.TABLE,
) -> None:
    """List instances."""
    with open_records(settings_or_usage_error()) as records:
        instances = records.catalog.list_instances(HostName(host) if host else None)
    if project is not None:
        instances = tuple(instance for instance in instances if instance.project == project)
    if form is Format.JSON:
        show_json([instance_view(instance) for instance in instances])
        return
    columns = ("NAME", "STATE", "ADDRESS", "HOST", "FLAVOR", "AGE", "IMAGE")
    show_table(columns, map(_instance_row, instances), empty="No instances. Make one with `taskvisor launch`.")


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


def host_state_text(host: Host) -> str:
    """What matters most: that it is disabled, down, or marked for what it says of itself; or that it is up."""
    if host.disabled_reason:
        return f"disabled: {host.disabled_reason}"
    if not host.up:
        return "down"
    return "takes nothing" if host.inventory and host.inventory.problems else "up"


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
