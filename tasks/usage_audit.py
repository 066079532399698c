"""What each instance of a host had in the period that has just ended: Nova's instance_usage_audit, in a stream of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.store import Store
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from taskvisor.model.tick import Counts
from taskvisor.state.usage import Usage

AUDIT_USAGE = "host.audit_usage"


@dataclass(frozen=True, kw_only=True)
class UsageAudit:
    """One host's. Periods begin at multiples of their length since the epoch, in UTC."""

    store: Store
    host: HostName
    now: Callable[[], float]
    period_s: float

    def run(self) -> Counts:
        """The period that ended last is audited, once, whatever the clock has done in between."""
        number = int(self.now() // self.period_s) - 1
        if self.store.usage.read_period(self.host) == number:
            return {}
        began_at = number * self.period_s
        ended_at = began_at + self.period_s
        instances = [one for one in self.store.catalog.list_instances(self.host) if one.created_at < ended_at]
        self.store.usage.append(self.host, number, (_usage_of(one, began_at, ended_at) for one in instances))
        return {"instances": len(instances)}


def _usage_of(instance: Instance, began_at: float, ended_at: float) -> Usage:
    flavor = instance.flavor
    return Usage(
        began_at=began_at,
        ended_at=ended_at,
        instance=instance.id,
        name=instance.name,
        project=instance.project,
        host=instance.host,
        vm_state=instance.vm_state.value,
        power_state=instance.power_state.label,
        flavor=flavor.name,
        vcpus=flavor.vcpus,
        memory_mib=flavor.memory_mib,
        disk_gib=flavor.disk_gib + flavor.ephemeral_gib,
        created_at=instance.created_at,
        launched_at=instance.launched_at,
    )
