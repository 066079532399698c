"""What a host has and what is used of it, looked at as one and written down: Nova's update_available_resource.

Hypervisor, file systems, image cache and records are read; nothing on the host is changed. What the host says that can't be is
written with it (`Inventory.problems`), so that nothing is placed there, and so is what differs from the records (`remarks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from tasks.store import Store
from taskvisor.compute.inventory import Ratios, inventory_for
from taskvisor.compute.stats import stats_for
from taskvisor.compute.traits import traits_for
from taskvisor.compute.usage import Usage, usage_for
from taskvisor.flow.ports import Disks, Hypervisor, ImageCache
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.network import NO_LINKS, HostLinks
from taskvisor.model.records import Instance, Inventory

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """One host's. CannotAsk where a part of it can't be looked at: what was written before stays."""

    store: Store
    host: HostName
    hypervisor: Hypervisor
    disks: Disks
    images: ImageCache
    ratios: Ratios
    now: Callable[[], float]
    links: HostLinks = NO_LINKS

    def track(self) -> Inventory:
        """The inventory as it is now, which is in the store too: written when it has changed, else only when it was looked at."""
        inventory = self._inventory()
        former = self.store.hosts.write_inventory(self.host, inventory)
        self._tell(former, inventory)
        return inventory

    def _inventory(self) -> Inventory:
        facts, disk_gib = self.hypervisor.read_facts(), self.disks.read_free_gib()
        instances = {instance.id: instance for instance in self.store.catalog.list_instances(self.host)}
        usage = self._usage(instances)
        inventory = inventory_for(
            facts,
            disk_gib,
            self.ratios,
            self.now(),
            self.links,
            table=self.store.resources,
            traits=traits_for(facts),
        )
        return replace(
            inventory,
            # Nobody claims what these take: where it is not left out, guests to come would have it twice.
            limits=replace(inventory.limits, memory_mib=max(0, inventory.limits.memory_mib - usage.orphan_memory_mib)),
            cached_images=self.images.list_cached(),
            stats=stats_for(instances.values()),
            remarks=usage.remarks,
            disk_available_least_gib=disk_gib[1] - self.disks.read_growth_gib(),
            orphans=usage.orphans,
            guests=usage.guests,
        )

    def _usage(self, instances: Mapping[InstanceId, Instance]) -> Usage:
        """The records come first, and those that seem to lack are asked for again: a guest built since then is no orphan."""
        domains = self.hypervisor.list_uses()
        unknown = [domain.instance_id for domain in domains if domain.instance_id not in instances]
        late = (self.store.catalog.read_instance(instance_id) for instance_id in unknown)
        here = {instance.id: instance for instance in late if instance is not None and instance.host == self.host}
        return usage_for({**instances, **here}, domains)

    def _tell(self, former: Inventory | None, inventory: Inventory) -> None:
        if former is None or (former.limits, former.total) != (inventory.limits, inventory.total):
            before = None if former is None else dict(former.limits.amounts())
            log.info("host_capacity_changed", host=self.host, before=before, now=dict(inventory.limits.amounts()))
        if inventory.orphans and (former is None or former.orphans != inventory.orphans):
            log.warning("host_has_orphans", host=self.host, domains=inventory.orphans)
        if inventory.problems and (former is None or former.problems != inventory.problems):
            log.error("host_takes_nothing", host=self.host, problems=inventory.problems)
        if inventory.remarks and (former is None or former.remarks != inventory.remarks):
            log.warning("host_differs_from_records", host=self.host, remarks=inventory.remarks)
