"""What a host's guests have by its hypervisor, against what is recorded of them. Pure: readings in, sentences out.

Nova's resource tracker does this at each report. Nothing is changed because of it: what lasts becomes a finding of the audit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DomainUse
from taskvisor.model.records import Instance, Resources

REMARKS_LIMIT = 10
"""Told of one host; how many more there are is said too."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """`orphan_memory_mib` is that of domains that run and that no record is of."""

    guests: Resources
    orphans: tuple[InstanceId, ...]
    orphan_memory_mib: int
    remarks: tuple[str, ...]


def usage_for(instances: Mapping[InstanceId, Instance], domains: Iterable[DomainUse]) -> Usage:
    """`instances` are all that are recorded on the host: a domain of none of these is an orphan."""
    found = tuple(domains)
    orphans = [domain for domain in found if domain.instance_id not in instances]
    remarks = tuple(_remarks(instances, found))
    told = remarks[:REMARKS_LIMIT]
    if len(remarks) > len(told):
        told = (*told, f"and {len(remarks) - len(told)} more")
    return Usage(
        guests=Resources(
            vcpus=sum(domain.vcpus for domain in found), memory_mib=sum(domain.memory_mib for domain in found)
        ),
        orphans=tuple(sorted(domain.instance_id for domain in orphans)),
        orphan_memory_mib=sum(domain.memory_mib for domain in orphans if domain.runs),
        remarks=told,
    )


def _remarks(instances: Mapping[InstanceId, Instance], domains: Iterable[DomainUse]) -> Iterator[str]:
    """Of guests at rest: what is under way explains itself."""
    for domain in domains:
        instance = instances.get(domain.instance_id)
        if instance is None or instance.task_state is not None:
            continue
        flavor = instance.flavor
        if domain.vcpus != flavor.vcpus:
            yield f"{instance.name} ({instance.id}) has {domain.vcpus} CPUs, its flavor {flavor.vcpus}"
        if domain.memory_mib != flavor.memory_mib:
            yield f"{instance.name} ({instance.id}) has {domain.memory_mib} MiB, its flavor {flavor.memory_mib}"
