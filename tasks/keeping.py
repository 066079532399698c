"""What a host does so that a lost store can be written anew: copies of records beside what they are about, kept up to date.

Only instances at rest, alone with them: the copy of one that an operation changes would be of a moment. Also notices that the
store has lost its records, before anybody builds on addresses that guests have. Must never remove anything: a record that is not
there says nothing, least of all that its copy is wrong.
"""

from dataclasses import dataclass

import structlog

from tasks.at_rest import done_alone
from tasks.store import Store
from taskvisor.flow.ports import Exclusion, Ports
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Instance
from virt.kept_records import without_secrets

KEEP_RECORDS = "host.keep_records"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecordKeeper:
    """One host's. `exclusion` is that of the host's runner."""

    store: Store
    host: HostName
    ports: Ports
    exclusion: Exclusion

    def keep(self) -> int:
        """Each instance at rest here, and each image whose file lies here, has a copy of its record. Returns how many were new.

        CannotAsk when the records, or the host, can't be asked.
        """
        instances = self.store.catalog.list_instances(self.host)
        if not instances:
            self._mind_lost_store()
        copies = {copy.instance_id: copy.instance for copy in self.ports.disks.list_kept_instances()}
        stale = [
            instance.id
            for instance in instances
            if instance.task_state is None and copies.get(instance.id) != without_secrets(instance)
        ]
        return sum(map(self.keep_one, stale)) + self.keep_images()

    def keep_one(self, instance_id: InstanceId) -> bool:
        """The instance's copy is as its record, if it is at rest on this host. True when there is such a record."""
        return done_alone(self, instance_id, self._kept, undone="record_not_kept")

    def keep_images(self) -> int:
        """Each image whose file lies here has a copy of its record. Returns how many were new."""
        copies = {copy.image_id: copy.image for copy in self.ports.disks.list_kept_images()}
        here = [
            image for image in self.store.catalog.list_images() if image.host == self.host and image.deletion is None
        ]
        stale = [image for image in here if copies.get(image.id) != image]
        for image in stale:
            self.ports.disks.ensure_image_kept(image)
        return len(stale)

    def _kept(self, instance: Instance) -> bool:
        self.ports.disks.ensure_instance_kept(instance)
        return True

    def _mind_lost_store(self) -> None:
        """A store without any instance, and guests of ours here: it was flushed, or is another one."""
        guests = sum(domain.owned for domain in self.ports.hypervisor.list_domains())
        if not guests:
            return
        reason = (
            f"host {self.host} has {guests} guests, and the store has not one instance: its records are lost, or it is another"
            " store; run `taskvisor rebuild --from-hosts`, or `taskvisor rebuild --open` if that is as it should be"
        )
        if self.store.closing.close_if_flushed(reason, self.ports.clock.now()):
            log.error("store_closed", reason=reason)
