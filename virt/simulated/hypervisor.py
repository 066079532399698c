"""Domains as small files: defined, running, paused or off, shared by every process of the simulated host.

A domain is {xml, name, power state, boot id, ours or not} in `domains/<uuid>.json`; `names/<name>.json` says whose a
name is, so that no call looks through all domains but `list_domains` and `read_facts`. Must never know why it is called.
"""

import platform
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from taskvisor.model.errors import Busy, Contradiction, Refused, Retryable, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import HostUsage
from taskvisor.model.observed import DefinitionFacts, DomainFacts, DomainUse, HypervisorFacts
from taskvisor.model.plan import AttachedDisk, AttachedNic
from taskvisor.model.snapshot import LiveCopy, Quiesce
from taskvisor.model.states import PowerState, VirtType
from virt.libvirt_xml import macs_of, with_disk, with_nic, without_disk, without_nic
from virt.progress import Progress
from virt.readback import DomainSeen, parse_disk, parse_domain, parse_size
from virt.record_copy import require_copy_of, with_record_copy
from virt.simulated.image_file import copy_image
from virt.simulated.offers import MACHINE, SUPPORT, cells_for
from virt.simulated.pool_files import file_of
from virt.simulated.usage import usage_for
from virt.simulated.world import Counter, Lock, Shelf

AGENT_CHANNEL = "org.qemu.guest_agent.0"


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What the simulated host has of one domain. `boot_id` is set exactly while it runs or is paused.

    `disks` are the paths, and `serials` the serials, of the XML and of what was added since, by device. `live_xml` is the
    definition that it was started with. `frozen`: its file systems are, for a copy. `saved` is its memory, as it was
    switched off, if that was saved.
    """

    name: str
    xml: str
    disks: Mapping[str, str] = field(default_factory=dict)
    serials: Mapping[str, str] = field(default_factory=dict)
    owned: bool = True
    power_state: PowerState = PowerState.SHUTDOWN
    boot_id: int | None = None
    live_xml: str | None = None
    frozen: bool = False
    saved: "SavedMemory | None" = None

    @property
    def has_agent(self) -> bool:
        """Whether its XML gives it the channel of the guest agent; a simulated guest then has the agent too."""
        return AGENT_CHANNEL in self.xml


@dataclass(frozen=True, kw_only=True)
class SavedMemory:
    """Memory on the host's disk: of a guest that ran, or was paused; saved by us, or by somebody else."""

    power_state: PowerState
    ours: bool
    live_xml: str | None = None


class SimulatedHypervisor:
    """The port Hypervisor, on files below `root`. Opening it makes the directories, and nothing else.

    `deaf` are guests that don't answer the power button, nor does their agent answer. A start takes no time and always
    succeeds when the disks named in the XML are there.
    """

    def __init__(
        self,
        root: Path,
        *,
        cpus: int = 64,
        memory_mib: int = 256 * 1024,
        deaf: Collection[InstanceId] = (),
    ) -> None:
        self._root = root
        self._cpus = cpus
        self._memory_mib = memory_mib
        self._deaf = frozenset(deaf)
        self._lock = Lock(root / "domains.lock")
        self._domains = Shelf(root / "domains", Domain, self._lock)
        self._names = Shelf(root / "names", str, self._lock)
        self._boots = Counter(root / "boots")

    def read_facts(self) -> HypervisorFacts:
        """A large host that says of itself that it is simulated. Its version cannot be taken for a real one's."""
        return HypervisorFacts(
            cpus=self._cpus,
            memory_mib=self._memory_mib,
            arch=platform.machine(),
            virt_type=VirtType.QEMU,
            hypervisor_version="simulated",
            emulator="/usr/bin/simulated",
            machine=MACHINE,
            domains=len(self._domains.list_keys()),
            support=SUPPORT,
            cells=cells_for(self._cpus, self._memory_mib),
        )

    def read_domain(self, instance_id: InstanceId) -> DomainFacts | None:
        """The domain as its file says; None when there is no such file. CannotAsk when the host's files are away."""
        domain = self._domains.read(instance_id)
        return None if domain is None else _facts(instance_id, domain)

    def list_domains(self) -> tuple[DomainFacts, ...]:
        """Every domain, ours or not, in the order of their ids."""
        return tuple(_facts(InstanceId(key), domain) for key, domain in self._domains.list_all())

    def read_usage(self) -> HostUsage:
        """Of the host and its guests, as if each that runs kept one of its CPUs a tenth busy: see `virt.simulated.usage`."""
        domains = ((InstanceId(key), domain.power_state, domain.live_xml) for key, domain in self._domains.list_all())
        return usage_for(self._cpus, self._memory_mib, domains, time.monotonic_ns())

    def list_definitions(self) -> tuple[DefinitionFacts, ...]:
        """The XML of every domain, ours or not, as it is defined and as it was started, in the order of their ids."""
        return tuple(
            DefinitionFacts(instance_id=InstanceId(key), persistent_xml=domain.xml, live_xml=domain.live_xml)
            for key, domain in self._domains.list_all()
        )

    def list_uses(self) -> tuple[DomainUse, ...]:
        """What the XML of every domain, ours or not, gives it, in the order of their ids."""
        return tuple(_use(InstanceId(key), domain) for key, domain in self._domains.list_all())

    def ensure_defined(self, instance_id: InstanceId, xml: str) -> None:
        """The domain is defined with this XML; its power state stays.

        Contradiction when the name or the id is somebody else's; Refused when the XML is not that of this instance's
        domain, with our metadata and a name. What else libvirt would reject is not found here.
        """
        wanted = _domain_for(_seen_in(xml, instance_id), xml)
        with self._lock.held():
            before = self._ours(instance_id)
            self._require_name(wanted.name, instance_id)
            if before is not None and before.name != wanted.name:
                raise Refused(f"cannot rename domain {instance_id}, defined as {before.name}, to {wanted.name}")
            if before is not None:
                wanted = replace(before, xml=wanted.xml, disks=wanted.disks, serials=wanted.serials)
            # The name comes last and goes first: a name without its domain would be nobody's to remove.
            self._domains.put(instance_id, wanted)
            self._names.put(_name_key(wanted.name), instance_id)

    def ensure_record_copied(self, instance_id: InstanceId, copy: str) -> None:
        """The domain's XML, and that it was started with, carry the copy; nothing else of it changes."""
        require_copy_of(instance_id, copy)
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is not None:
                live_xml = domain.live_xml and with_record_copy(domain.live_xml, copy)
                copied = replace(domain, xml=with_record_copy(domain.xml, copy), live_xml=live_xml)
                self._domains.put(instance_id, copied)

    def ensure_running(self, instance_id: InstanceId) -> DomainFacts:
        """The domain runs: started with a new boot id, or resumed with its old one.

        Refused when it is not defined; Contradiction when it is not ours; Retryable when a disk of its is not there.
        """
        with self._existing(instance_id) as domain:
            if domain.power_state is PowerState.RUNNING:
                return _facts(instance_id, domain)
            boot_id = domain.boot_id
            live_xml = domain.live_xml
            if boot_id is None:
                _require_disks(self._root, domain)
                boot_id = self._boots.next()  # differs also from those before it was defined anew
                live_xml = domain.xml
            running = replace(domain, power_state=PowerState.RUNNING, boot_id=boot_id, live_xml=live_xml, saved=None)
            self._domains.put(instance_id, running)
            return _facts(instance_id, running)

    def ensure_off(self, instance_id: InstanceId) -> None:
        """The domain does not run; one that is not there is off. Contradiction when it is not ours."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is not None and _off(domain) != domain:
                self._domains.put(instance_id, _off(domain))

    def ensure_undefined(self, instance_id: InstanceId) -> None:
        """No domain of that id exists, running or not. Contradiction when it is not ours."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is not None:
                self._names.remove(_name_key(domain.name))
                self._domains.remove(instance_id)

    def request_shutdown(self, instance_id: InstanceId) -> None:
        """The guest hears the power button and turns off, unless it is deaf, paused, or not running at all."""
        with self._lock.held():
            domain = self._ours(instance_id)
            hears = domain is not None and domain.power_state is PowerState.RUNNING and instance_id not in self._deaf
            if domain is not None and hears:
                self._domains.put(instance_id, _off(domain))

    def ensure_disk_attached(self, instance_id: InstanceId, disk: AttachedDisk) -> None:
        """The domain has the disk. Refused when it is not defined or its device is another's; Retryable when the disk is away."""
        with self._existing(instance_id) as domain:
            if domain.serials.get(disk.device) == disk.serial:
                return
            if disk.device in domain.disks:
                raise Refused(f"domain {domain.name} has another disk {disk.device}; ask for another device name")
            seen = parse_disk(disk.xml)
            disks = {**domain.disks, disk.device: seen.path or ""}
            serials = {**domain.serials, disk.device: disk.serial}
            live_xml = domain.live_xml and with_disk(domain.live_xml, disk.xml)
            attached = replace(
                domain, xml=with_disk(domain.xml, disk.xml), live_xml=live_xml, disks=disks, serials=serials
            )
            if domain.boot_id is not None:
                _require_disks(self._root, attached)
            self._domains.put(instance_id, attached)

    def ensure_disk_detached(self, instance_id: InstanceId, device: str, serial: str) -> None:
        """The domain has no such disk. Busy when the guest runs and is deaf, or is paused: it does not let go."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is None or domain.serials.get(device) != serial:
                return
            hears = instance_id not in self._deaf and domain.power_state is PowerState.RUNNING
            if domain.boot_id is not None and not hears:
                raise Busy(f"guest {instance_id} has not let go of disk {device} ({serial})", delay_s=1.0)
            disks = {name: path for name, path in domain.disks.items() if name != device}
            serials = {name: known for name, known in domain.serials.items() if name != device}
            xml, live_xml = without_disk(domain.xml, device), domain.live_xml and without_disk(domain.live_xml, device)
            self._domains.put(instance_id, replace(domain, xml=xml, live_xml=live_xml, disks=disks, serials=serials))

    def ensure_nic_attached(self, instance_id: InstanceId, nic: AttachedNic) -> None:
        """The domain has the NIC. Refused when it is not defined."""
        with self._existing(instance_id) as domain:
            xml = domain.xml if nic.mac in macs_of(domain.xml) else with_nic(domain.xml, nic.xml)
            live_xml = domain.live_xml
            if live_xml is not None and nic.mac not in macs_of(live_xml):
                live_xml = with_nic(live_xml, nic.xml)
            self._domains.put(instance_id, replace(domain, xml=xml, live_xml=live_xml))

    def ensure_nic_detached(self, instance_id: InstanceId, mac: str) -> None:
        """The domain has no such NIC. Busy when the guest runs and is deaf, or is paused: it does not let go."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is None:
                return
            live_xml, xml = domain.live_xml, without_nic(domain.xml, mac)
            hears = instance_id not in self._deaf and domain.power_state is PowerState.RUNNING
            if live_xml is not None and hears:
                live_xml = without_nic(live_xml, mac)
            self._domains.put(instance_id, replace(domain, xml=xml, live_xml=live_xml))
            if live_xml is not None and mac in macs_of(live_xml):
                raise Busy(f"guest {instance_id} has not let go of NIC {mac}", delay_s=1.0)

    def copy_disk(
        self,
        instance_id: InstanceId,
        device: str,
        target_path: str,
        progress: Progress,
        *,
        quiesce: Quiesce = Quiesce.NEVER,
    ) -> LiveCopy:
        """`target_path` is a simulated image made from the disk `device` of the running domain.

        Its progress is told while the guest is frozen: who dies of it leaves it so. Refused when the domain does not run or
        has no such disk, or must be quiesced and has no agent that answers; Contradiction when it is not ours.
        """
        with self._existing(instance_id) as domain:
            if domain.boot_id is None:
                raise Refused(f"cannot copy disk {device} of domain {domain.name}: it is off; copy its file instead")
            source = domain.disks.get(device)
            if source is None:
                raise Refused(f"cannot copy disk {device} of domain {domain.name}: it has no disk of that name")
            obstacle = self._obstacle(instance_id, domain, quiesce)
            if obstacle is not None and quiesce is Quiesce.REQUIRED:
                raise Refused(f"cannot quiesce domain {domain.name}: {obstacle}; ask with quiesce auto")
            copy = copy_image(self._lock, file_of(self._root, source) or Path(source), Path(target_path))
            self._domains.put(instance_id, replace(domain, frozen=obstacle is None))
        try:
            progress(copy.size_bytes, copy.size_bytes)
        except Exception:
            self.ensure_copy_ended(instance_id, device)
            raise
        self.ensure_copy_ended(instance_id, device)
        return LiveCopy(quiesced=obstacle is None, why_not=obstacle)

    def ensure_copy_ended(self, instance_id: InstanceId, device: str) -> None:
        """The guest is not frozen. A simulated copy is made in one call: none ever goes on."""
        del device
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is not None and domain.frozen:
                self._domains.put(instance_id, replace(domain, frozen=False))

    def ensure_suspended_to_disk(self, instance_id: InstanceId) -> bool:
        """The domain does not run; what it was is kept if it ran. A simulated guest that runs has no memory saved."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is None:
                return False
            if domain.boot_id is None:
                return domain.saved is not None and domain.saved.ours
            saved = SavedMemory(power_state=domain.power_state, ours=True, live_xml=domain.live_xml)
            self._domains.put(instance_id, replace(_off(domain), saved=saved))
            return True

    def ensure_resumed(self, instance_id: InstanceId) -> None:
        """A domain whose memory we saved is as it was, with a new boot id; any other is left as it is."""
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is not None and domain.saved is not None and domain.saved.ours:
                _require_disks(self._root, domain)
                saved, boot_id = domain.saved, self._boots.next()
                back = replace(
                    domain, power_state=saved.power_state, boot_id=boot_id, live_xml=saved.live_xml, saved=None
                )
                self._domains.put(instance_id, back)

    def _obstacle(self, instance_id: InstanceId, domain: Domain, quiesce: Quiesce) -> str | None:
        if quiesce is Quiesce.NEVER:
            return "it was not asked for"
        if domain.power_state is not PowerState.RUNNING:
            return "the guest is paused"
        if not domain.has_agent or instance_id in self._deaf:
            return "its agent does not answer"
        return None

    @contextmanager
    def _existing(self, instance_id: InstanceId) -> Iterator[Domain]:
        with self._lock.held():
            domain = self._ours(instance_id)
            if domain is None:
                raise Refused(f"there is no domain {instance_id} on this host; define it first")
            yield domain

    def _ours(self, instance_id: InstanceId) -> Domain | None:
        domain = self._domains.read(instance_id)
        if domain is not None and not domain.owned:
            raise Contradiction(f"domain {instance_id} ({domain.name}) does not bear our metadata; left alone")
        return domain

    def _require_name(self, name: str, instance_id: InstanceId) -> None:
        holder = self._names.read(_name_key(name))
        if holder in (None, instance_id):
            return
        domain = self._domains.read(holder)
        if domain is not None and domain.name == name:
            raise Contradiction(f"the name {name} belongs to domain {holder}, not to {instance_id}; left alone")


def _facts(instance_id: InstanceId, domain: Domain) -> DomainFacts:
    return DomainFacts(
        instance_id=instance_id,
        name=domain.name,
        power_state=domain.power_state,
        boot_id=domain.boot_id,
        owned=domain.owned,
    )


def _use(instance_id: InstanceId, domain: Domain) -> DomainUse:
    vcpus, memory_mib = parse_size(domain.live_xml or domain.xml)
    return DomainUse(
        instance_id=instance_id,
        name=domain.name,
        runs=domain.boot_id is not None,
        vcpus=vcpus,
        memory_mib=memory_mib,
    )


def _off(domain: Domain) -> Domain:
    return replace(domain, power_state=PowerState.SHUTDOWN, boot_id=None, live_xml=None, frozen=False, saved=None)


def _name_key(name: str) -> str:
    return quote(name, safe="")


def _seen_in(xml: str, instance_id: InstanceId) -> DomainSeen:
    try:
        seen = parse_domain(xml)
    except UnreadableRecord as error:
        raise Refused(f"cannot define domain {instance_id}: {error}") from error
    if not seen.name or seen.uuid != instance_id or seen.owner != instance_id:
        raise Refused(
            f"cannot define domain {instance_id}: the XML is of domain {seen.uuid} ({seen.name or 'without a name'}), "
            f"instance {seen.owner}; render it for this instance"
        )
    return seen


def _domain_for(seen: DomainSeen, xml: str) -> Domain:
    disks = {disk.device: disk.path for disk in seen.disks if disk.path is not None}
    serials = {disk.device: disk.serial for disk in seen.disks if disk.serial is not None}
    return Domain(name=seen.name, xml=xml, disks=disks, serials=serials)


def _require_disks(root: Path, domain: Domain) -> None:
    for device, path in domain.disks.items():
        file = file_of(root, path)
        if file is not None and not file.exists():
            raise Retryable(f"cannot start domain {domain.name}: its disk {device} is {path}, which is not there")
