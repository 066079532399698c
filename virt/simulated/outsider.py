"""What people and guests do on a simulated host behind our back, for tests of drift and contradiction. No port has these."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from taskvisor.model.ids import InstanceId
from taskvisor.model.states import PowerState
from virt.libvirt_xml import macs_of
from virt.simulated.hypervisor import Domain, SavedMemory
from virt.simulated.world import Lock, Shelf


class SimulatedOutsider:
    """Somebody with root's rights on the simulated host `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = Lock(root / "domains.lock")
        self._domains = Shelf(root / "domains", Domain, self._lock)
        self._names = Shelf(root / "names", str, self._lock)

    def ensure_foreign_domain(self, uuid: InstanceId, name: str) -> None:
        """A domain without our metadata is defined, off."""
        with self._lock.held():
            self._names.put(quote(name, safe=""), uuid)
            xml = f"<domain><name>{name}</name><uuid>{uuid}</uuid></domain>"
            self._domains.put(uuid, Domain(name=name, xml=xml, owned=False))

    def ensure_power_state(self, uuid: InstanceId, power_state: PowerState) -> None:
        """The domain, which must be there, is paused, crashed, off or running on: whatever a guest or a person may do.

        A running state keeps the boot id; use the hypervisor's `ensure_running` to start a domain.
        """
        with self._lock.held():
            domain = self._there(uuid)
            alive = power_state in (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)
            boot_id, live_xml = (domain.boot_id, domain.live_xml) if alive else (None, None)
            self._domains.put(uuid, replace(domain, power_state=power_state, boot_id=boot_id, live_xml=live_xml))

    def ensure_defined_with(self, uuid: InstanceId, edit: Callable[[str], str]) -> None:
        """As `virsh edit`: the definition is what `edit` makes of it; a domain that runs has it from its next start."""
        with self._lock.held():
            domain = self._there(uuid)
            self._domains.put(uuid, replace(domain, xml=edit(domain.xml)))

    def ensure_running_with(self, uuid: InstanceId, edit: Callable[[str], str]) -> None:
        """As `virsh attach-disk --live` and the like: the domain, which runs, is changed until its next start."""
        with self._lock.held():
            domain = self._there(uuid)
            if domain.live_xml is None:
                raise KeyError(uuid)
            self._domains.put(uuid, replace(domain, live_xml=edit(domain.live_xml)))

    def ensure_memory_saved(self, uuid: InstanceId) -> None:
        """Somebody has saved the memory of the running domain, which must be there."""
        with self._lock.held():
            domain = self._domains.read(uuid)
            if domain is None:
                raise KeyError(uuid)
            saved = SavedMemory(power_state=domain.power_state, ours=False)
            off = replace(domain, power_state=PowerState.SHUTDOWN, boot_id=None, frozen=False, saved=saved)
            self._domains.put(uuid, off)

    def list_held(self) -> tuple[tuple[InstanceId, str], ...]:
        """The domains that are not left to themselves: frozen, or with their memory saved."""
        found = self._domains.list_all()
        frozen = [(InstanceId(uuid), "frozen") for uuid, domain in found if domain.frozen]
        return (*frozen, *((InstanceId(uuid), "saved") for uuid, domain in found if domain.saved is not None))

    def list_disks(self) -> Mapping[str, Mapping[str, str]]:
        """The paths of each domain's disks, by device."""
        return {uuid: dict(domain.disks) for uuid, domain in self._domains.list_all()}

    def list_nics(self, uuid: InstanceId) -> tuple[str, ...]:
        """The MACs of the NICs that the domain has now; of one that runs, those of its guest."""
        domain = self._there(uuid)
        return macs_of(domain.live_xml or domain.xml)

    def ensure_domain_gone(self, uuid: InstanceId) -> None:
        """The domain is no more, ours or not."""
        with self._lock.held():
            self._domains.remove(uuid)

    def ensure_foreign_directory(self, instance_id: InstanceId) -> None:
        """An instance directory of that name holds somebody else's file."""
        directory = self._root / "instances" / instance_id
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "notes.txt").write_text("not yours")

    def _there(self, uuid: InstanceId) -> Domain:
        domain = self._domains.read(uuid)
        if domain is None:
            raise KeyError(uuid)
        return domain
