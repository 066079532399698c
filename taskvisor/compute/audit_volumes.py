"""Where volumes are not held as they are recorded, or a host is connected otherwise than it should be."""

from collections.abc import Iterator, Mapping, Set

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.observed import HostSeen
from taskvisor.model.records import Instance
from taskvisor.model.states import VmState
from taskvisor.model.survey import Records
from taskvisor.model.volume import SHARED, volume_identity_for

RUNS = frozenset({VmState.ACTIVE, VmState.PAUSED})


def volume_findings(records: Records) -> Iterator[Finding]:
    """What one reading of the records has against itself."""
    wanted = {
        (volume_identity_for(volume.source, instance.host), instance.id): instance
        for instance in records.instances.values()
        for volume in instance.volumes
    }
    for identity, holders in records.volumes.items():
        for holder in holders:
            if (identity, holder) not in wanted and not records.is_unreadable(holder):
                said = f"instance {holder} holds it, and no record of such an instance has it"
                yield _finding(Code.VOLUME_HOLD_LEFT, f"{identity} {holder}", said)
        if len(holders) > 1 and set(holders.values()) != {SHARED}:
            said = f"instances {', '.join(sorted(holders))} hold it, and not all of them share it"
            yield _finding(Code.VOLUME_HELD_TWICE, identity, said)
    for (identity, holder), instance in wanted.items():
        if holder not in records.volumes.get(identity, {}) and not records.is_unreadable(identity):
            said = f"{instance.name} has it, and does not hold it: another may be given it"
            yield _finding(Code.VOLUME_NOT_HELD, f"{identity} {holder}", said, instance.host)


def connection_findings(
    host: HostName, found: HostSeen, resting: Mapping[InstanceId, Instance], recorded: Set[InstanceId]
) -> Iterator[Finding]:
    """What the host is connected to, against the instances that are at rest. `recorded` are all that there is a record of."""
    connected = {(one.instance_id, one.source) for one in found.volumes}
    for instance_id, source in connected:
        instance = resting.get(instance_id)
        if instance is None and instance_id in recorded:
            continue  # it is being worked on
        if instance is None or instance.host != host or source not in (one.source for one in instance.volumes):
            said = f"connected to {source} for instance {instance_id}, which has it not here"
            yield _finding(Code.CONNECTION_WITHOUT_RECORD, f"{instance_id} {source}", said, host)
    for instance in resting.values():
        if instance.host != host or instance.vm_state not in RUNS:
            continue
        for volume in instance.volumes:
            if (instance.id, volume.source) not in connected:
                said = f"{instance.name} runs with {volume.source}, which the host is not connected to"
                yield _finding(Code.CONNECTION_MISSING, f"{instance.id} {volume.source}", said, host)


def _finding(code: Code, subject: str, message: str, host: HostName | None = None) -> Finding:
    return Finding(code=code, subject=subject, host=host, message=message)
