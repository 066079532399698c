"""What a store that lost its records is to be told, out of what all hosts have. Values in, values out.

Only what is missing is ever written: what the store has, it has better. Where two of the things found can't both be, neither
side is believed: that is a conflict, and nothing at all is written until somebody has decided it. What is left out, and the
guests of hosts that did not tell, keep their addresses, as far as anybody knows them: nobody else is given these.

Must never know how hosts are asked or records are written, and never conclude from a host's silence that something is gone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from taskvisor.compute.rebuild_guest import recovered_from
from taskvisor.compute.rebuild_networks import NetworksTold, differing, groups_wanted, networks_told, unlike_recorded
from taskvisor.compute.resources.table import resources_for
from taskvisor.model.holdings import GuestHeld, HostHoldings
from taskvisor.model.ids import HostName, InstanceId, PortId
from taskvisor.model.network import FloatingAddress, Port
from taskvisor.model.rebuilding import (
    BoundFloating,
    Conflict,
    ConflictKind,
    Note,
    Present,
    Rebuild,
    Reserved,
)
from taskvisor.model.records import Claim, Image, Instance, Resources
from taskvisor.model.volume import SHARED, hold_mode_of, volume_identity_for


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What the operator said is not to be recorded: ids of instances and images, and hosts that will not answer."""

    subjects: frozenset[str] = frozenset()
    hosts: frozenset[HostName] = frozenset()


NOTHING_LEFT_OUT = LeftOut()


def rebuild_for(told: Sequence[HostHoldings], present: Present, left_out: LeftOut = NOTHING_LEFT_OUT) -> Rebuild:
    """What is to be written to a store that has `present`, by what these hosts told, and what stands against it.

    The same told again, to a store where it was written, is nothing to write.
    """
    believed = [holdings for holdings in told if holdings.host not in left_out.hosts]
    networks = networks_told(believed)
    draft = _Draft(present=present, networks=networks, left_out=left_out)
    draft.conflicts.extend(differing(networks))
    draft.notes.extend(unlike_recorded(networks, present.networks))
    for host, held in _placed(draft, believed):
        draft.take_guest(host, held)
    draft.admit_guests()
    for holdings in believed:
        draft.take_images(holdings)
        draft.notes.extend(_notes_of(holdings, draft.known_instances()))
    answered = {holdings.host for holdings in believed}
    draft.take_unknown_ports(answered)
    return draft.finished()


def _placed(draft: "_Draft", told: Iterable[HostHoldings]) -> Iterator[tuple[HostName, GuestHeld]]:
    """Each guest with the one host that has it: where its domain is. Of one that is on several, a conflict."""
    found: dict[InstanceId, list[tuple[HostName, GuestHeld]]] = {}
    for holdings in told:
        for held in holdings.guests:
            if held.instance_id not in draft.present.instances:
                found.setdefault(held.instance_id, []).append((holdings.host, held))
    for instance_id, places in sorted(found.items()):
        with_domain = [place for place in places if place[1].domain is not None]
        if len(places) == 1 or len(with_domain) == 1:
            taken = (with_domain or places)[0]
            yield taken
            for host, _ in places:
                if host != taken[0]:
                    said = f"it is on {taken[0]}; here is a directory of it, which is left alone"
                    draft.notes.append(Note(host=host, subject=instance_id, message=said))
        elif instance_id in draft.left_out.subjects:
            draft.leave_out(instance_id, [held for _, held in places])
        else:
            hosts = tuple(host for host, _ in places)
            said = f"instance {instance_id} is on several hosts: {', '.join(hosts)}"
            draft.object(ConflictKind.TWO_HOSTS, instance_id, hosts, said)


@dataclass(kw_only=True)
class _Draft:
    """What has been found so far, and who has what of it."""

    present: Present
    networks: NetworksTold
    left_out: LeftOut
    candidates: list[Instance] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    reserved: dict[PortId, Reserved] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    silent: dict[HostName, int] = field(default_factory=dict)
    claimed: dict[InstanceId, Resources] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = dict(self.present.names)
        self._addresses = dict(self.present.addresses)
        self._macs = dict(self.present.macs)
        self._volumes = {identity: dict(holders) for identity, holders in self.present.volumes.items()}
        self._images = dict(self.present.images)

    def object(self, kind: ConflictKind, subject: str, hosts: tuple[HostName, ...], message: str) -> None:
        """Something stands against writing."""
        self.conflicts.append(Conflict(kind=kind, subject=subject, hosts=hosts, message=message))

    def known_instances(self) -> frozenset[InstanceId]:
        """Those that are recorded, or will be."""
        return self.present.instances | {instance.id for instance in self.instances}

    def take_guest(self, host: HostName, held: GuestHeld) -> None:
        """The guest's record, if there is one to be had."""
        if held.instance_id in self.left_out.subjects:
            self.leave_out(held.instance_id, [held])
            return
        found = recovered_from(held, host)
        if found.instance is None and held.domain is None and not found.remarks:
            said = "a directory without a domain and without a copy of its record, of a build that had not ended; left alone"
            self.notes.append(Note(host=host, subject=held.instance_id, message=said))
            return
        if found.instance is None:
            said = (
                f"instance {held.instance_id} can't be read back: {'; '.join(found.remarks) or 'nothing tells of it'}"
            )
            self.object(ConflictKind.UNREADABLE, held.instance_id, (host,), said)
            return
        self.notes.extend(Note(host=host, subject=found.instance.name, message=said) for said in found.remarks)
        self.candidates.append(found.instance)
        if held.claimed is not None:
            self.claimed[held.instance_id] = held.claimed

    def leave_out(self, instance_id: InstanceId, places: Iterable[GuestHeld]) -> None:
        """The guest is not recorded; its addresses are nobody else's."""
        self.notes.append(
            Note(host=None, subject=instance_id, message="it is left out, as was asked; its guest is not known")
        )
        for held in places:
            record = held.copy or held.defined
            for port in () if record is None else record.ports:
                self._reserve(_reserved_for(port))

    def _reserve(self, reserved: Reserved) -> None:
        self.reserved.setdefault(reserved.port_id, reserved)

    def admit_guests(self) -> None:
        """Each guest that fits beside those that are there; the oldest first, since it was there first."""
        for instance in sorted(self.candidates, key=lambda one: (one.created_at, one.id)):
            found = list(self._objections(instance))
            for kind, said in found:
                self.object(kind, instance.id, (instance.host,), f"instance {instance.name} ({instance.id}): {said}")
            if not found:
                self._admit(instance)

    def _objections(self, instance: Instance) -> Iterator[tuple[ConflictKind, str]]:
        owner = self._names.get(instance.name, instance.id)
        if owner != instance.id:
            yield ConflictKind.NAME_TAKEN, f"its name is that of instance {owner}"
        for port in instance.ports:
            yield from self._objections_to(port)
        for volume in instance.volumes:
            identity = volume_identity_for(volume.source, instance.host)
            holders = {one: mode for one, mode in self._volumes.get(identity, {}).items() if one != instance.id}
            if holders and not (volume.tuning.shareable and set(holders.values()) == {SHARED}):
                yield ConflictKind.VOLUME_HELD, f"volume {volume.source} is held by instance {min(holders)}"

    def _objections_to(self, port: Port) -> Iterator[tuple[ConflictKind, str]]:
        if port.network_id not in self.present.networks and port.network_id not in self.networks.latest:
            yield ConflictKind.NETWORK_UNKNOWN, f"no host knows its network {port.network} ({port.network_id})"
        for address in port.addresses:
            owner = self._addresses.get((port.network_id, address), port.id)
            if owner != port.id:
                yield ConflictKind.ADDRESS_TAKEN, f"{address} on network {port.network} is that of port {owner}"
        owner = self._macs.get((port.network_id, port.mac), port.id)
        if owner != port.id:
            yield ConflictKind.MAC_TAKEN, f"{port.mac} on network {port.network} is that of port {owner}"

    def _admit(self, instance: Instance) -> None:
        self.instances.append(instance)
        self._names[instance.name] = instance.id
        for port in instance.ports:
            self._macs[port.network_id, port.mac] = port.id
            self._addresses.update({(port.network_id, address): port.id for address in port.addresses})
        for volume in instance.volumes:
            holders = self._volumes.setdefault(volume_identity_for(volume.source, instance.host), {})
            holders[instance.id] = hold_mode_of(volume)

    def take_images(self, holdings: HostHoldings) -> None:
        """The images whose files lie on the host, under their names."""
        whole = {facts.image_id for facts in holdings.image_files if facts.complete}
        for image in sorted(holdings.images, key=lambda one: (one.created_at, one.id)):
            if image.id in self.left_out.subjects or self._images.get(image.name) == image.id:
                continue
            if image.id not in whole:
                said = f"the file of image {image.name} is not whole; it is not registered"
                self.notes.append(Note(host=holdings.host, subject=image.id, message=said))
            elif image.name in self._images:
                said = f"image {image.id}: its name {image.name!r} is that of image {self._images[image.name]}"
                self.object(ConflictKind.IMAGE_NAME_TAKEN, image.id, (holdings.host,), said)
            else:
                self._images[image.name] = image.id
                self.images.append(replace(image, host=holdings.host))
        for image_id in sorted(whole - {image.id for image in holdings.images} - set(self._images.values())):
            said = "the file of an image lies here whose name nobody knows; register it by its path, or remove it"
            self.notes.append(Note(host=holdings.host, subject=image_id, message=said))

    def take_unknown_ports(self, answered: Collection[HostName]) -> None:
        """Ports that others know of, and whose guests are not recorded: their hosts are silent, and their addresses taken."""
        known = {port.id for instance in self.instances for port in instance.ports} | set(
            self.present.addresses.values()
        )
        for network_id, member in self.networks.members():
            if member.port_id in known or member.host in answered:
                continue
            if member.host in self.left_out.hosts:
                self._reserve(
                    Reserved(network_id=network_id, port_id=member.port_id, mac=member.mac, addresses=member.addresses)
                )
            else:
                self.silent[member.host] = self.silent.get(member.host, 0) + 1

    def finished(self) -> Rebuild:
        """All of it."""
        fresh = {
            one: around.network for one, around in self.networks.latest.items() if one not in self.present.networks
        }
        named = [group for instance in self.instances for port in instance.ports for group in port.security_groups]
        groups, unknown = groups_wanted(self.networks, named, self.present.groups)
        for group in unknown:
            said = "a rule or a port names it, and no host knows its name or its rules: it is there under its id, without rules"
            self.notes.append(Note(host=None, subject=f"security group {group.id}", message=said))
        return Rebuild(
            networks=tuple(fresh.values()),
            groups=groups,
            floating=tuple(self._floating()),
            instances=tuple(self.instances),
            claims=tuple(_claim_for(instance, self.claimed.get(instance.id)) for instance in self.instances),
            images=tuple(self.images),
            reserved=tuple(one for one in self.reserved.values() if self._is_free(one)),
            conflicts=tuple(self.conflicts),
            notes=tuple(self.notes),
            silent=dict(sorted(self.silent.items())),
        )

    def _is_free(self, reserved: Reserved) -> bool:
        return not any((reserved.network_id, address) in self._addresses for address in reserved.addresses)

    def _floating(self) -> Iterator[BoundFloating]:
        """Each that is not there, or is there unbound and was its port's whose instance comes back now."""
        owners = {port.id: instance.id for instance in self.instances for port in instance.ports}
        taken = {floating.port_id for floating in self.present.floating.values()}
        for floating_id, floating in sorted(self.networks.floating.items()):
            there = self.present.floating.get(floating_id)
            owner = None if floating.port_id is None else owners.get(floating.port_id)
            if there is not None and (there.port_id is not None or owner is None):
                continue
            if owner is None or floating.port_id in taken:
                yield BoundFloating(floating=_unbound(floating))
                said = f"floating address {floating.address} was that of port {floating.port_id}, which is not recorded"
                self.notes.append(Note(host=None, subject=floating.address, message=said))
            else:
                taken.add(floating.port_id)
                yield BoundFloating(floating=floating, instance_id=owner)


def _unbound(floating: FloatingAddress) -> FloatingAddress:
    return replace(floating, port_id=None)


def _claim_for(instance: Instance, claimed: Resources | None) -> Claim:
    """What it holds of its host. It runs there, so whether it fits is no question: its limits are what it takes."""
    resources = claimed or resources_for(instance.flavor)
    return Claim(
        host=instance.host,
        instance_id=instance.id,
        resources=resources,
        limits=resources,
        things=() if instance.place is None else instance.place.things,
        place=instance.place,
    )


def _reserved_for(port: Port) -> Reserved:
    return Reserved(network_id=port.network_id, port_id=port.id, mac=port.mac, addresses=port.addresses)


def _notes_of(holdings: HostHoldings, known: Collection[InstanceId]) -> Iterator[Note]:
    """What is on the host besides, and is nobody's who is recorded; what the hosts' own files say otherwise."""
    host = holdings.host
    if holdings.foreign:
        said = f"domains that are not ours, which are left alone: {', '.join(sorted(holdings.foreign))}"
        yield Note(host=host, subject="domains", message=said)
    for problem in holdings.lost:
        yield Note(host=host, subject="copy", message=problem)
    held = {guest.instance_id for guest in holdings.guests}
    for link in holdings.links:
        if link.instance_id not in held and link.instance_id not in known:
            said = f"link {link.name} is here of an instance that has neither a domain nor a directory; left alone"
            yield Note(host=host, subject=link.instance_id, message=said)
    for volume in holdings.volumes:
        if volume.instance_id not in known:
            said = f"the host is connected to {volume.source} for it, and it is not recorded; left alone"
            yield Note(host=host, subject=volume.instance_id, message=said)
    yield from _dhcp_notes(holdings)


def _dhcp_notes(holdings: HostHoldings) -> Iterator[Note]:
    addresses: Mapping[str, frozenset[str]] = {
        port.mac: frozenset(port.addresses)
        for guest in holdings.guests
        for record in (guest.defined, guest.copy)
        if record is not None
        for port in record.ports
    }
    for entry in holdings.dhcp:
        if entry.mac in addresses and entry.address not in addresses[entry.mac]:
            said = f"DHCP tells {entry.mac} the address {entry.address}, and its port has {min(addresses[entry.mac])}"
            yield Note(host=holdings.host, subject=entry.mac, message=said)
