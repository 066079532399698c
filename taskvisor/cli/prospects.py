"""`--dry-run` of requests that take something away: what would go, what would stay and what is in the way, by the records.

Nothing is asked of anyone. Whoever takes the request later looks again, and that look alone decides.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from taskvisor.cli.exits import ExitCode
from taskvisor.cli.records import Records, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, say, show_rows
from taskvisor.model.allowed import state_text
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would go and what is in the way; ask for nothing.")
]

NAMES_SHOWN = 5

Look = Callable[[Records, str], str | None]
"""What a request about a subject would do, in words; None when there is no such thing."""


def end_with_prospects(subjects: Sequence[str], look: Look, form: Format) -> None:
    """Show what would become of each, and exit: with ALREADY when there is none of them."""
    with open_records(settings_or_usage_error()) as records:
        found = [(subject, look(records, subject)) for subject in dict.fromkeys(subjects)]
    rows = [(subject, prospect or "nothing: there is none such") for subject, prospect in found]
    views = [{"subject": subject, "prospect": prospect} for subject, prospect in found]
    show_rows(form, ("SUBJECT", "WHAT WOULD BE DONE"), rows, views, empty="")
    say("Nothing was asked for. What is so when it is asked for decides.")
    raise typer.Exit(ExitCode.ALREADY if all(prospect is None for _, prospect in found) else ExitCode.DONE)


def deletion_of_instance(records: Records, name: str) -> str | None:
    """All that is the instance's own goes; volumes and floating addresses outlive it."""
    instance = records.catalog.find_instance(name)
    if instance is None:
        return None
    gone = [f"{state_text(instance)} on {instance.host}: its domain and disks go", *_released(records, instance)]
    if instance.volumes:
        gone.append(f"volumes stay: {', '.join(one.source for one in instance.volumes)}")
    return "; ".join(gone)


def soft_deletion_of_instance(records: Records, name: str) -> str | None:
    """It is switched off, and keeps all that it has."""
    instance = records.catalog.find_instance(name)
    if instance is None:
        return None
    return (
        f"{state_text(instance)} on {instance.host}: it is switched off; all that it has stays for `taskvisor restore`"
    )


def detachment_of_volume(volume: str) -> Look:
    """The volume, by source, serial or device, is let go of; what is on it stays."""

    def look(records: Records, name: str) -> str | None:
        instance = records.find_instance(name)
        for one in instance.volumes:
            if volume in (one.source, one.serial, one.device):
                return f"volume {one.source} ({one.device or 'no device yet'}) is let go of; what is on it stays"
        return None

    return look


def detachment_of_interface(interface: str) -> Look:
    """The NIC, by MAC, address or port, goes; its addresses are free then."""

    def look(records: Records, name: str) -> str | None:
        for port in records.find_instance(name).ports:
            if interface.lower() in (port.mac, port.id, *port.addresses):
                return f"NIC {port.index} on {port.network} goes; {', '.join(port.addresses)} are free then"
        return None

    return look


def deletion_of_image(records: Records, name: str) -> str | None:
    image = records.catalog.find_image(name)
    if image is None:
        return None
    return f"its name is free; its file goes from {image.host}" if image.host else "its name is free; its source stays"


def deletion_of_network(records: Records, name: str) -> str | None:
    network = next((one for one in records.catalog.list_networks() if name in (one.name, one.id)), None)
    if network is None:
        return None
    ports = _names_with(records, lambda one: any(port.network_id == network.id for port in one.ports))
    return _refused_for("ports are on it", ports) or f"{network.kind.value} network {network.cidr} goes"


def deletion_of_group(records: Records, name: str) -> str | None:
    group = records.groups.look_up(name)
    if group is None:
        return None
    members = _names_with(records, lambda one: any(group.id in port.security_groups for port in one.ports))
    return _refused_for("ports are in it", members) or f"the group and its {len(group.rules)} rules go"


def deletion_of_flavor(records: Records, name: str) -> str | None:
    found = records.flavors.look_up(name)
    return None if found is None else f"flavor {found.flavor.name} goes; instances that were built with it keep it"


def deletion_of_floating(records: Records, address: str) -> str | None:
    found = records.floating.look_up(address)
    if found is None:
        return None
    return f"would be refused: it is bound to port {found.port_id}" if found.port_id else "the address goes"


def release_of_floating(records: Records, address: str) -> str | None:
    found = records.floating.look_up(address)
    if found is None:
        return None
    return f"port {found.port_id} loses it" if found.port_id else "nothing: it is bound to no port"


def deletion_of_aggregate(records: Records, name: str) -> str | None:
    found = records.aggregates.read().find(name)
    if found is None:
        return None
    return _refused_for("hosts are in it", found.hosts) or "the aggregate and its properties go"


def deletion_of_server_group(records: Records, name: str) -> str | None:
    found = records.server_groups.look_up(name)
    if found is None:
        return None
    group, members = found
    names = tuple(records.instance_names(members).values())
    return _refused_for("instances are in it", names) or f"the group ({group.policy.value}) goes"


def removal_of_host(records: Records, name: str) -> str | None:
    """It may not speak any more, and nothing may be there."""
    host = records.hosts.look_up(HostName(name))
    if host is None:
        return None
    if host.up:
        return "would be refused: its worker still speaks"
    there = tuple(one.name for one in records.catalog.list_instances(HostName(name)))
    return _refused_for("instances are on it", there) or "the host and all that is recorded of it are forgotten"


def _released(records: Records, instance: Instance) -> list[str]:
    ports = {port.id for port in instance.ports}
    bound = [one.address for one in records.floating.list() if one.port_id in ports]
    freed = [f"{', '.join(instance.addresses)} are free then"] if instance.addresses else []
    return freed + ([f"floating addresses stay, unbound: {', '.join(bound)}"] if bound else [])


def _names_with(records: Records, condition: Callable[[Instance], bool]) -> tuple[str, ...]:
    return tuple(one.name for one in records.catalog.list_instances() if condition(one))


def _refused_for(what: str, names: Sequence[str]) -> str | None:
    if not names:
        return None
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"would be refused: {what}: {', '.join(names[:NAMES_SHOWN])}{more}"
