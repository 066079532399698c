"""Where a host has what no record puts there, or lacks what a record does.

An instance is judged only when it was at rest: the same record in both readings, and no operation under way in either. What
is under way, or STUCK, explains what is or is not there. A host that did not answer is one finding, and nothing is concluded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taskvisor.compute.audit_drift import drift_findings
from taskvisor.compute.audit_volumes import connection_findings
from taskvisor.compute.power_sync import is_gone_by_record, synced
from taskvisor.model.finding import AuditLimits, Code, Finding
from taskvisor.model.ids import HostName, ImageId, InstanceId, PortId, image_id_for
from taskvisor.model.network import SEED_ONLY_KINDS
from taskvisor.model.observed import DomainFacts, HostSeen, PlugPart
from taskvisor.model.records import Image, Instance
from taskvisor.model.states import Phase, PowerState, VmState
from taskvisor.model.survey import HostRecord, Records

ON_ITS_HOST = frozenset(
    {
        VmState.ACTIVE,
        VmState.STOPPED,
        VmState.PAUSED,
        VmState.SUSPENDED,
        VmState.RESCUED,
        VmState.SOFT_DELETED,
    }
)
"""An instance at rest in one of these has its directory and its domain; one in ERROR has what its operation left it, unless it
is in ERROR because its domain is gone."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What both readings say of instances and images. `instances` and `images` are those of either reading."""

    resting: Mapping[InstanceId, Instance]
    instances: Mapping[InstanceId, frozenset[HostName]]
    under_way: frozenset[InstanceId]
    ports: frozenset[PortId]
    dhcp: frozenset[tuple[str, str]]
    images: frozenset[ImageId]
    blind: bool  # a record of an instance could not be read: nothing is without a record then


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What was seen on one host, by what instances ask for: made once a host, not once an instance."""

    directories: frozenset[InstanceId]
    links: frozenset[PortId]
    dhcp: frozenset[tuple[str, str]]
    lacks: Mapping[PortId, frozenset[PlugPart]]


def host_findings(
    before: Records, seen: Mapping[HostName, HostSeen | None], after: Records, now: float, limits: AuditLimits
) -> Iterator[Finding]:
    """What was seen on each host that was asked, against what both readings say."""
    known = _known(before, after)
    for host, record in after.hosts.items():
        if _is_missed(host, record, after) or (host in seen and seen[host] is None):
            said = (
                "it is not heard of" if record.incarnation is None else "it was asked what it has, and did not answer"
            )
            yield _finding(Code.HOST_SILENT, host, said, host)
        if record.forced_down is not None and record.incarnation is not None:
            by, why = record.forced_down.by, record.forced_down.reason
            said = f"it was forced down by {by} ({why}), and its node speaks: guests of it may run"
            yield _finding(Code.HOST_FORCED_DOWN_SPEAKS, host, said, host)
    resting_on: dict[HostName, list[Instance]] = {}  # in one pass: not all instances are gone through for every host
    for instance in known.resting.values():
        resting_on.setdefault(instance.host, []).append(instance)
    for host, found in seen.items():
        if found is None:
            continue
        yield from _domains(host, found, known)
        yield from _files(host, found, known, before, after)
        yield from _links(host, found, known)
        if not known.blind:
            yield from connection_findings(host, found, known.resting, known.instances.keys())
        here, looked = resting_on.get(host, []), _looked(found)
        domains = {domain.instance_id: domain for domain in found.domains if domain.owned}
        sync_is_late = _sync_is_late(after.hosts.get(host), now, limits)
        drifts = {drift.instance_id: drift for drift in found.drifts}
        for instance in here:
            if instance.id in drifts:
                has_directory = instance.id in looked.directories
                yield from drift_findings(instance, drifts[instance.id], has_directory=has_directory)
            yield from _instance(instance, looked, domains.get(instance.id), after, sync_is_late=sync_is_late)


def _finding(code: Code, subject: str, message: str, host: HostName) -> Finding:
    return Finding(code=code, subject=subject, host=host, message=message)


def _is_missed(name: HostName, host: HostRecord, records: Records) -> bool:
    """A host that was disabled and has nothing recorded on it may be silent for good."""
    if host.incarnation is not None:
        return False
    in_use = host.claims or any(instance.host == name for instance in records.instances.values())
    return host.disabled_reason is None or bool(in_use)


def _known(before: Records, after: Records) -> _Known:
    both = [*before.instances.values(), *after.instances.values()]
    hosts: dict[InstanceId, set[HostName]] = {}
    for instance in both:
        hosts.setdefault(instance.id, set()).add(instance.host)
    under_way = frozenset(one.instance_id for records in (before, after) for one in records.unsettled())
    busy = {*under_way, *before.leases, *after.leases}
    resting = {
        instance_id: instance
        for instance_id, instance in after.instances.items()
        if before.instances.get(instance_id) == instance and instance.task_state is None and instance_id not in busy
    }
    return _Known(
        resting=resting,
        instances={instance_id: frozenset(names) for instance_id, names in hosts.items()},
        under_way=under_way,
        ports=frozenset(port.id for instance in both for port in instance.ports),
        dhcp=frozenset((port.mac.lower(), port.address) for instance in both for port in instance.ports),
        images=_image_ids(before) | _image_ids(after),
        blind=before.any_unreadable("instance:") or after.any_unreadable("instance:"),
    )


def _image_ids(records: Records) -> frozenset[ImageId]:
    """Images that are registered, and those that operations make or have left alone."""
    made = (one for one in records.operations.values() if not one.phase.settled or one.phase is Phase.STUCK)
    return frozenset(image.id for image in records.images.values()) | {image_id_for(one.id) for one in made}


def _domains(host: HostName, found: HostSeen, known: _Known) -> Iterator[Finding]:
    for domain in found.domains:
        if not domain.owned or domain.instance_id in known.under_way:
            continue
        recorded = known.instances.get(domain.instance_id)
        if recorded is None and not known.blind:
            said = (
                f"domain {domain.name} is {domain.power_state.label} and bears our metadata; there is no such instance"
            )
            yield _finding(Code.DOMAIN_WITHOUT_RECORD, domain.instance_id, said, host)
        elif recorded is not None and host not in recorded:
            where = ", ".join(sorted(recorded))
            said = f"domain {domain.name} is {domain.power_state.label} here; the instance is recorded on {where}"
            yield _finding(Code.DOMAIN_ELSEWHERE, domain.instance_id, said, host)


def _files(host: HostName, found: HostSeen, known: _Known, before: Records, after: Records) -> Iterator[Finding]:
    for instance_id in found.directories:
        recorded = known.instances.get(instance_id)
        if _is_stray(host, instance_id, known):
            where = f"it is recorded on {', '.join(sorted(recorded))}" if recorded else "there is no such instance"
            said = f"a directory of ours lies here; {where}"
            yield _finding(Code.DIRECTORY_WITHOUT_RECORD, instance_id, said, host)
    for instance_id in found.pool_disks:
        # A Ceph pool is shared, so what is recorded on any host is no stray.
        if instance_id not in known.instances and instance_id not in known.under_way and not known.blind:
            said = "disks of ours lie in this host's volume group or Ceph pool; there is no such instance"
            yield _finding(Code.DISK_WITHOUT_RECORD, instance_id, said, host)
    blind = before.any_unreadable("image:", "op:") or after.any_unreadable("image:", "op:")
    for file in found.images:
        if file.image_id not in known.images and not blind:
            what = "a published image" if file.complete else "an unfinished image"
            said = f"{what} lies here, which nothing is registered for"
            yield _finding(Code.IMAGE_FILE_WITHOUT_RECORD, file.image_id, said, host)
    complete = {file.image_id for file in found.images if file.complete}
    for image in after.images.values():
        if _is_lost(image, before, host) and image.id not in complete:
            yield _finding(Code.IMAGE_FILE_MISSING, image.id, f"image {image.name!r} is registered, but not here", host)


def _is_lost(image: Image, before: Records, host: HostName) -> bool:
    lies_here = image.host == host and image.instance_id is not None and image.deletion is None
    return lies_here and before.images.get(image.name) == image


def _is_stray(host: HostName, instance_id: InstanceId, known: _Known) -> bool:
    """No reading puts the instance on this host, and no operation is about it."""
    if instance_id in known.under_way:
        return False
    recorded = known.instances.get(instance_id)
    return not known.blind if recorded is None else host not in recorded


def _links(host: HostName, found: HostSeen, known: _Known) -> Iterator[Finding]:
    for link in found.links:
        if _is_stray(host, link.instance_id, known) or (link.port_id not in known.ports and not known.blind):
            said = f"it is port {link.port_id}'s of instance {link.instance_id}, which is not recorded here"
            yield _finding(Code.LINK_WITHOUT_RECORD, link.name, said, host)
    for entry in found.dhcp:
        if (entry.mac.lower(), entry.address) not in known.dhcp and not known.blind:
            said = f"{entry.hostname} is told {entry.address} on {entry.bridge}, by no record"
            yield _finding(Code.DHCP_WITHOUT_RECORD, entry.mac, said, host)


def _instance(
    instance: Instance, looked: _Looked, domain: DomainFacts | None, records: Records, *, sync_is_late: bool
) -> Iterator[Finding]:
    """What an instance at rest lacks on its host."""
    if instance.vm_state not in ON_ITS_HOST and not is_gone_by_record(instance):
        return
    if instance.id not in looked.directories:
        yield _finding(Code.DIRECTORY_MISSING, instance.id, f"{instance.name} has no directory here", instance.host)
    if domain is None:
        said = f"{instance.name} is recorded as {instance.vm_state.value}; the host has no domain of ours for it"
        yield _finding(Code.DOMAIN_MISSING, instance.id, said, instance.host)
        return
    if sync_is_late and synced(instance, domain) is not None:
        recorded = f"{instance.vm_state.value}, {instance.power_state.label}"
        said = f"{instance.name} is recorded as {recorded}; its domain is {domain.power_state.label}"
        yield _finding(Code.POWER_DIFFERS, instance.id, said, instance.host)
    if domain.power_state is PowerState.RUNNING:
        yield from _plugs(instance, looked, records)


def _plugs(instance: Instance, looked: _Looked, records: Records) -> Iterator[Finding]:
    links, told, lacks = looked.links, looked.dhcp, looked.lacks
    for port in instance.ports:
        if port.id not in links:
            said = f"{instance.name} runs without the link of NIC {port.index}"
            yield _finding(Code.LINK_MISSING, port.id, said, instance.host)
        lacked = lacks.get(port.id, frozenset())
        if port.id in links and PlugPart.LINK in lacked:
            said = f"{instance.name} runs, and the link of NIC {port.index} is down or off its bridge"
            yield _finding(Code.LINK_MISSING, port.id, said, instance.host)
        if port.id in links and PlugPart.GUEST in lacked:
            said = f"{instance.name} runs, and its NIC {port.index} is on a link that is no more"
            yield _finding(Code.LINK_NOT_OPEN, port.id, said, instance.host)
        if PlugPart.FILTER in lacked:
            said = f"{instance.name} runs without the filters of NIC {port.index}"
            yield _finding(Code.FILTER_MISSING, port.id, said, instance.host)
        if PlugPart.METADATA in lacked:
            said = f"{instance.name} runs, and nothing answers its NIC {port.index} at the metadata address"
            yield _finding(Code.METADATA_MISSING, port.id, said, instance.host)
        record = records.networks.get(port.network_id)
        network = record.network if record is not None else None
        wanted = network is not None and network.dhcp and network.kind not in SEED_ONLY_KINDS
        if wanted and (port.mac.lower(), port.address) not in told:
            said = f"{instance.name} runs, and DHCP does not know its {port.address} ({port.mac})"
            yield _finding(Code.DHCP_MISSING, port.id, said, instance.host)
        elif wanted and PlugPart.DHCP in lacked:
            said = f"{instance.name} runs, and nothing answers its NIC {port.index} by DHCP"
            yield _finding(Code.DHCP_MISSING, port.id, said, instance.host)


def _looked(found: HostSeen) -> _Looked:
    return _Looked(
        directories=frozenset(found.directories),
        links=frozenset(link.port_id for link in found.links),
        dhcp=frozenset((entry.mac.lower(), entry.address) for entry in found.dhcp),
        lacks={lack.port_id: frozenset(lack.parts) for lack in found.lacks},
    )


def _sync_is_late(host: HostRecord | None, now: float, limits: AuditLimits) -> bool:
    """Records follow the hypervisor at each power sync: until that had its time, a difference is no finding."""
    if host is None:
        return False
    synced_at = host.power_synced_at
    return synced_at is None or now - synced_at > limits.power_syncs * limits.power_sync_s
