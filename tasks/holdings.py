"""One look at all that this host has of records, for a store that lost them. Touches nothing and decides nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from net.plan import parse_owner
from tasks.guest_wants import claim_of
from taskvisor.compute.resources.table import ResourceTable
from taskvisor.flow.ports import Ports
from taskvisor.model.errors import Refused, UnreadableRecord
from taskvisor.model.holdings import GuestHeld, HostHoldings, InstanceCopy
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.observed import DefinitionFacts, DomainFacts, LinkFacts, LinkSeen
from virt.libvirt_xml import macs_of
from virt.readback import instance_from_xml, parse_domain


def holdings_of(ports: Ports, table: ResourceTable, host: HostName, now: float) -> HostHoldings:
    """What the host has. CannotAsk when any part of it can't be told: half a look would make the rest seem to be gone."""
    domains = ports.hypervisor.list_domains()
    images, networks = ports.disks.list_kept_images(), ports.fabric.list_kept_networks()
    problems = chain((copy.problem for copy in images), (copy.problem for copy in networks))
    return HostHoldings(
        host=host,
        looked_at=now,
        guests=tuple(_with_claim(held, table) for held in _guests(ports, domains)),
        images=tuple(copy.image for copy in images if copy.image is not None),
        image_files=ports.disks.list_images(),
        networks=networks,
        links=tuple(_links(ports.fabric.list_links())),
        dhcp=ports.fabric.list_dhcp(),
        volumes=ports.volumes.list_connected(),
        foreign=tuple(domain.name for domain in domains if not domain.owned),
        lost=tuple(problem for problem in problems if problem is not None),
    )


def _guests(ports: Ports, domains: Iterable[DomainFacts]) -> tuple[GuestHeld, ...]:
    """Of each domain of ours, and of each directory of ours that has none."""
    ours = {domain.instance_id: domain for domain in domains if domain.owned}
    xml = {one.instance_id: one for one in ports.hypervisor.list_definitions()}
    copies = {copy.instance_id: copy for copy in ports.disks.list_kept_instances()}
    ids = sorted({*ours, *copies, *ports.disks.list_directories()})
    return tuple(_guest(one, ours, xml, copies.get(one)) for one in ids)


def _guest(
    instance_id: InstanceId,
    domains: Mapping[InstanceId, DomainFacts],
    definitions: Mapping[InstanceId, DefinitionFacts],
    copy: InstanceCopy | None,
) -> GuestHeld:
    domain, definition = domains.get(instance_id), definitions.get(instance_id)
    held = GuestHeld(
        instance_id=instance_id,
        domain=domain,
        copy=None if copy is None else copy.instance,
        problem=None if copy is None else copy.problem,
    )
    if domain is None or definition is None:
        return held
    return _with_definition(held, domain, definition)


def _with_definition(held: GuestHeld, domain: DomainFacts, definition: DefinitionFacts) -> GuestHeld:
    """With what the definition says: as it is kept, and of a domain that only runs, as that is."""
    xml = definition.persistent_xml or definition.live_xml or ""
    try:
        seen = parse_domain(xml)
        serials = tuple(disk.serial for disk in seen.disks if disk.serial is not None)
        devices = replace(held, macs=macs_of(xml), serials=serials)
    except UnreadableRecord as error:
        return replace(held, problem=str(error))
    try:
        return replace(devices, defined=instance_from_xml(xml, domain.power_state))
    except UnreadableRecord as error:
        return replace(devices, problem=str(error))


def _with_claim(held: GuestHeld, table: ResourceTable) -> GuestHeld:
    record = held.copy or held.defined
    if record is None:
        return held
    try:
        return replace(held, claimed=claim_of(record, table).resources)
    except Refused:
        return held  # what it once asked for, this version can't count any more


def _links(links: Iterable[LinkFacts]) -> Iterator[LinkSeen]:
    """Links whose alias names a guest and a port."""
    for link in links:
        owner = parse_owner(link.owner)
        if owner is not None:
            yield LinkSeen(name=link.name, instance_id=owner.instance_id, port_id=owner.port_id)
