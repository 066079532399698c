"""The copies of records that this host's domains carry follow what requests have changed in the records alone.

A definition has the record's copy from when it was made. A port may change its security groups while its guest runs, and nothing
is defined for that: without this, what is rebuilt from the hosts would put the port back into its old groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from tasks.at_rest import done_alone
from tasks.drift import JUDGED
from tasks.store import Store
from taskvisor.flow.ports import Exclusion, Ports
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from virt.record_copy import is_behind, record_copy_for

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecordCopies:
    """One host's. `exclusion` is that of the host's runner: no step of a guest runs while its domain is given another copy."""

    store: Store
    host: HostName
    ports: Ports
    exclusion: Exclusion

    def ensure_current(self, instances: Iterable[Instance]) -> int:
        """Each domain of these guests of the host whose copy lags behind, and that no operation holds, carries the record's copy.

        Returns of how many that was said. One that is refused hinders no other: it is logged, and looked at again the next time.
        CannotAsk when the records, or the hypervisor, can't be asked.
        """
        lagging = _lagging(self.ports, instances)
        return sum(done_alone(self, instance.id, self._copied, undone="record_not_copied") for instance in lagging)

    def _copied(self, instance: Instance) -> bool:
        if not _lagging(self.ports, (instance,)):
            return False
        self.ports.hypervisor.ensure_record_copied(instance.id, record_copy_for(instance))
        log.info("record_copied", instance_id=instance.id, name=instance.name)
        return True


def _lagging(ports: Ports, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Those at rest whose domain carries an older copy. Touches nothing."""
    resting = [one for one in instances if one.vm_state in JUDGED and one.task_state is None]
    if not resting:
        return ()
    found = {definition.instance_id: definition for definition in ports.hypervisor.list_definitions()}
    return tuple(one for one in resting if one.id in found and is_behind(found[one.id], record_copy_for(one)))
