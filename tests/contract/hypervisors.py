"""The two hosts that the Hypervisor suite runs on, and what somebody else may do there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import libvirt

from taskvisor.flow.ports import Hypervisor
from taskvisor.model.ids import InstanceId
from taskvisor.model.states import PowerState
from tests.fixtures.hosts import Libvirtd
from virt.hypervisor import LibvirtHypervisor
from virt.libvirt_xml import macs_of
from virt.readback import parse_domain
from virt.simulated import SimulatedHypervisor
from virt.simulated.outsider import SimulatedOutsider


class HypervisorHost(Protocol):
    """A host with a hypervisor. `open_port` may be pickled, and opened in another process; `unreachable` can ask nobody."""

    @property
    def open_port(self) -> Callable[[], Hypervisor]: ...

    port: Hypervisor
    unreachable: Hypervisor

    def ensure_foreign_domain(self, uuid: InstanceId, name: str) -> None:
        """A domain without our metadata is defined, off."""
        ...

    def ensure_foreign_domain_gone(self, uuid: InstanceId) -> None: ...

    def ensure_paused(self, instance_id: InstanceId) -> None:
        """Somebody has paused the running domain."""
        ...

    def ensure_memory_saved(self, instance_id: InstanceId) -> None:
        """Somebody has saved the memory of the running domain, which is off now."""
        ...

    def has_saved_memory(self, instance_id: InstanceId) -> bool:
        """Whether memory of the domain, which must be there, lies on the host's disk."""

    def list_devices(self, instance_id: InstanceId) -> tuple[str, ...]:
        """The names of the disks that the domain has now; of one that runs, those of its guest."""
        ...

    def list_nics(self, instance_id: InstanceId) -> tuple[str, ...]:
        """The MACs of the NICs that the domain has now; of one that runs, those of its guest."""
        ...


class SimulatedHost:
    def __init__(self, root: Path, away: Path) -> None:
        self.open_port = partial(SimulatedHypervisor, root)
        self.port: Hypervisor = self.open_port()
        self.unreachable: Hypervisor = SimulatedHypervisor(away / "host")
        (away / "host").rename(away / "moved")
        self._outsider = SimulatedOutsider(root)

    def ensure_foreign_domain(self, uuid: InstanceId, name: str) -> None:
        self._outsider.ensure_foreign_domain(uuid, name)

    def ensure_foreign_domain_gone(self, uuid: InstanceId) -> None:
        self._outsider.ensure_domain_gone(uuid)

    def ensure_paused(self, instance_id: InstanceId) -> None:
        self._outsider.ensure_power_state(instance_id, PowerState.PAUSED)

    def ensure_memory_saved(self, instance_id: InstanceId) -> None:
        self._outsider.ensure_memory_saved(instance_id)

    def has_saved_memory(self, instance_id: InstanceId) -> bool:
        return (instance_id, "saved") in self._outsider.list_held()

    def list_devices(self, instance_id: InstanceId) -> tuple[str, ...]:
        return tuple(sorted(self._outsider.list_disks()[instance_id]))

    def list_nics(self, instance_id: InstanceId) -> tuple[str, ...]:
        return self._outsider.list_nics(instance_id)


class RealHost:
    def __init__(self, libvirtd: Libvirtd) -> None:
        self._uri = libvirtd.uri
        logs = str(libvirtd.directory / "log" / "qemu")
        self.open_port = partial(LibvirtHypervisor, libvirtd.uri, virt_type="qemu", qemu_log_dir=logs)
        self.port: Hypervisor = self.open_port()
        nowhere = libvirtd.directory / "run" / "nobody-listens"
        self.unreachable: Hypervisor = LibvirtHypervisor(f"qemu+unix:///system?socket={nowhere}", virt_type="qemu")

    def ensure_foreign_domain(self, uuid: InstanceId, name: str) -> None:
        xml = f"""
            <domain type='qemu'>
              <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><os><type>hvm</type></os>
            </domain>"""
        with self._connected() as connection:
            connection.defineXML(xml)

    def ensure_foreign_domain_gone(self, uuid: InstanceId) -> None:
        with self._connected() as connection:
            connection.lookupByUUIDString(uuid).undefine()

    def ensure_paused(self, instance_id: InstanceId) -> None:
        with self._connected() as connection:
            connection.lookupByUUIDString(instance_id).suspend()

    def ensure_memory_saved(self, instance_id: InstanceId) -> None:
        with self._connected() as connection:
            connection.lookupByUUIDString(instance_id).managedSave()

    def has_saved_memory(self, instance_id: InstanceId) -> bool:
        with self._connected() as connection:
            return bool(connection.lookupByUUIDString(instance_id).hasManagedSaveImage())

    def list_devices(self, instance_id: InstanceId) -> tuple[str, ...]:
        with self._connected() as connection:
            xml = connection.lookupByUUIDString(instance_id).XMLDesc()
        return tuple(sorted(disk.device for disk in parse_domain(xml).disks))

    def list_nics(self, instance_id: InstanceId) -> tuple[str, ...]:
        with self._connected() as connection:
            return macs_of(connection.lookupByUUIDString(instance_id).XMLDesc())

    @contextmanager
    def _connected(self) -> Iterator["libvirt.virConnect"]:
        connection = libvirt.open(self._uri)
        try:
            yield connection
        finally:
            connection.close()
