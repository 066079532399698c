"""The copies of records that this host's domains carry follow what requests have changed in the records alone.

A definition has the record's copy from when it was made. A port may change its security groups while its guest runs, and nothing
is defined for that: without this, what is rebuilt from the hosts would put the port back into its old groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from tasks.drift import JUDGED
from tasks.store import Store
from taskvisor.flow.ports import Exclusion, Ports
from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName, InstanceId
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

    def ensure_current(self) -> int:
        """Each domain of this host whose copy lags behind, and whose instance no operation holds, carries the record's copy.

        Returns of how many that was said. One that is refused hinders no other: it is logged, and looked at again the next time.
        CannotAsk when the records, or the hypervisor, can't be asked.
        """
        lagging = _lagging(self.ports, self.store.catalog.list_instances(self.host))
        return sum(self._copied(instance.id) for instance in lagging)

    def _copied(self, instance_id: InstanceId) -> bool:
        """A second look, alone with the guest: what the record says then, if it is still this host's."""
        try:
            with self.exclusion.hold(instance_id) as alone:
                return alone and self._copied_alone(instance_id)
        except CannotAsk:
            raise
        except TaskvisorError as problem:
            log.error("record_not_copied", instance_id=instance_id, reason=str(problem))  # noqa: TRY400 - says all there is
            return False

    def _copied_alone(self, instance_id: InstanceId) -> bool:
        holding = self.store.admission.read_holding(instance_id)
        if holding is None or holding.lease is not None or holding.instance.host != self.host:
            return False
        if not _lagging(self.ports, (holding.instance,)):
            return False
        self.ports.hypervisor.ensure_record_copied(instance_id, record_copy_for(holding.instance))
        log.info("record_copied", instance_id=instance_id, name=holding.instance.name)
        return True


def _lagging(ports: Ports, instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Those at rest whose domain carries an older copy. Touches nothing."""
    resting = [one for one in instances if one.vm_state in JUDGED and one.task_state is None]
    if not resting:
        return ()
    found = {definition.instance_id: definition for definition in ports.hypervisor.list_definitions()}
    return tuple(one for one in resting if one.id in found and is_behind(found[one.id], record_copy_for(one)))
