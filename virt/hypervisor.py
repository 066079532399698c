"""The domains of this host, through libvirt: looked up by id each time, and left alone unless they bear our metadata.

Every verb looks, compares and acts, and takes another look when libvirt says that the domain changed in between. Nothing
of a domain is remembered from one call to the next. Knows no flow; disks and links must be there before a start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import libvirt
import structlog

from taskvisor.model.errors import Contradiction, Refused, Retryable, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.measured import HostUsage
from taskvisor.model.observed import DefinitionFacts, DomainFacts, DomainUse, GuestSupport, HostCell, HypervisorFacts
from taskvisor.model.plan import AttachedDisk, AttachedNic
from taskvisor.model.snapshot import LiveCopy, Quiesce
from taskvisor.model.states import VirtType
from virt.blockcopy import copy_running_disk, ensure_copy_ended
from virt.connection import LibvirtConnection
from virt.domain.owner import NAMESPACE
from virt.guest_support import BOARDS, parse_machines, parse_support
from virt.host_cells import parse_cells
from virt.host_cpu import parse_cpu, parse_shown_cpu
from virt.hotplug import ensure_disk_attached, ensure_disk_detached, ensure_nic_attached, ensure_nic_detached
from virt.kvm import KvmReadings, VirtTypeSetting, read_kvm, virt_type_for
from virt.libvirt_errors import is_no_domain
from virt.lookup import is_active, list_definitions, list_facts, list_uses, look_up_ours, read_facts_of
from virt.node_devices import list_pci_devices
from virt.power import LOOKS, call_with_known_flags, ensure_off, ensure_running, request_shutdown
from virt.progress import Progress
from virt.quiesce import ensure_thawed
from virt.readback import EmulatorSeen, parse_domain, parse_emulator
from virt.record_copy import PREFIX, parse_record_copy, require_copy_of
from virt.suspend import ensure_resumed, ensure_suspended_to_disk
from virt.usage import read_usage

log = structlog.get_logger(__name__)

QEMU_LOG_DIR = "/var/log/libvirt/qemu"
KIB_PER_MIB = 1024

_UNDEFINE_FLAGS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE,
)
_CPU_NOT_EXPANDED = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_FAILED,
    libvirt.VIR_ERR_INTERNAL_ERROR,
)
_NAME_TAKEN = (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_DOM_EXIST)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """How guests are run here and what they can have, as asked over one connection."""

    connection: libvirt.virConnect
    virt_type: VirtType
    emulator: EmulatorSeen
    support: GuestSupport
    cells: tuple[HostCell, ...]
    cpu_model: str | None
    cpu_features: frozenset[str]


class LibvirtHypervisor:
    """The port Hypervisor on libvirt. Making it opens nothing; the first call does, in the process that makes it.

    `virt_type` is the setting (auto, kvm, qemu). `qemu_log_dir` is where libvirt logs its guests; errors of a start quote
    it when it can be read. `lists_pci_devices`: whether guests may have any, so that they are looked for.
    """

    def __init__(
        self,
        uri: str,
        *,
        virt_type: str = VirtTypeSetting.AUTO,
        qemu_log_dir: str = QEMU_LOG_DIR,
        read_kvm: Callable[[], KvmReadings] = read_kvm,
        lists_pci_devices: bool = False,
    ) -> None:
        self._connection = LibvirtConnection(uri)
        self._virt_type = virt_type
        self._qemu_log_dir = Path(qemu_log_dir)
        self._read_kvm = read_kvm
        self._lists_pci_devices = lists_pci_devices
        self._asked: _Asked | None = None

    def close(self) -> None:
        """The connection is closed; the next call opens another."""
        self._connection.close()

    def read_facts(self) -> HypervisorFacts:
        """What the hypervisor says of its host. Refused when `virt_type` is kvm and guests cannot have it."""
        return self._connection.run("ask libvirt about this host", self._facts)

    def read_domain(self, instance_id: InstanceId) -> DomainFacts | None:
        """The domain as it is now; None when libvirt says that there is none."""
        return self._connection.run(
            f"look up domain {instance_id}", lambda connection: read_facts_of(connection, instance_id)
        )

    def list_domains(self) -> tuple[DomainFacts, ...]:
        """Every domain on the host, ours or not. `vnc_port` is not read here: it would take each domain's whole XML."""
        return self._connection.run("list the domains", list_facts)

    def read_usage(self) -> HostUsage:
        """What host and guests have used, as counters: see `virt.usage`."""
        return self._connection.run("measure this host and its domains", read_usage)

    def list_definitions(self) -> tuple[DefinitionFacts, ...]:
        """The XML of every domain on the host, ours or not, as it is defined and as it runs. Without passwords."""
        return self._connection.run("read the definitions of the domains", list_definitions)

    def list_uses(self) -> tuple[DomainUse, ...]:
        """What every domain, ours or not, has of the host: one call, however many there are."""
        return self._connection.run("ask what the domains have", list_uses)

    def ensure_defined(self, instance_id: InstanceId, xml: str) -> None:
        """The domain is defined with this XML (for a running one: from its next start).

        Contradiction when a domain of that name or UUID does not bear our metadata, or the name is another instance's;
        Refused when libvirt rejects the XML, or it is not this instance's.
        """
        try:
            seen = parse_domain(xml)
        except UnreadableRecord as error:
            raise Refused(f"cannot define domain {instance_id}: its XML is none ({error}); render it anew") from error
        if seen.uuid != instance_id or seen.owner != instance_id:
            raise Refused(
                f"cannot define domain {instance_id}: the XML is of domain {seen.uuid}, instance {seen.owner}; "
                "render it for this instance"
            )
        self._connection.run(
            f"define domain {instance_id}", lambda connection: _define(connection, instance_id, seen.name, xml)
        )

    def ensure_record_copied(self, instance_id: InstanceId, copy: str) -> None:
        """See the port. Where it is there already nothing is written."""
        require_copy_of(instance_id, copy)
        self._connection.run(
            f"copy the record of domain {instance_id}", lambda connection: _copy_record(connection, instance_id, copy)
        )

    def ensure_running(self, instance_id: InstanceId) -> DomainFacts:
        """The domain runs: started when it was off, resumed when it was paused. Returns what libvirt then says.

        Refused when there is no such domain; Contradiction when it is not ours; DoesNotFit when the host has no memory for
        it; Retryable, with what QEMU said last, when it does not start or ends at once.
        """
        return self._connection.run(
            f"start domain {instance_id}",
            lambda connection: ensure_running(connection, instance_id, self._qemu_log_dir),
        )

    def ensure_off(self, instance_id: InstanceId) -> None:
        """The domain does not run (pulled like a plug); a domain that is not there is off. Contradiction when not ours.

        Memory that libvirt saved of it (managed save) goes too: the next start is a cold one, with the definition then.
        """
        self._connection.run(f"stop domain {instance_id}", lambda connection: ensure_off(connection, instance_id))

    def ensure_undefined(self, instance_id: InstanceId) -> None:
        """No domain of that id exists, running or not. Contradiction when it is not ours."""
        self._connection.run(f"undefine domain {instance_id}", lambda connection: _undefine(connection, instance_id))

    def request_shutdown(self, instance_id: InstanceId) -> None:
        """Ask the guest to shut down (ACPI power button). Says nothing of whether it will; asking again is harmless.

        A domain that is off, or is not there, has been shut down. Contradiction when it is not ours.
        """
        self._connection.run(
            f"shut down domain {instance_id}", lambda connection: request_shutdown(connection, instance_id)
        )

    def ensure_disk_attached(self, instance_id: InstanceId, disk: AttachedDisk) -> None:
        """See the port: `virt.hotplug`."""
        self._connection.run(
            f"attach disk {disk.device} to domain {instance_id}",
            lambda connection: ensure_disk_attached(connection, instance_id, disk),
        )

    def ensure_disk_detached(self, instance_id: InstanceId, device: str, serial: str) -> None:
        """See the port: `virt.hotplug`."""
        self._connection.run(
            f"detach disk {device} from domain {instance_id}",
            lambda connection: ensure_disk_detached(connection, instance_id, device, serial),
        )

    def ensure_nic_attached(self, instance_id: InstanceId, nic: AttachedNic) -> None:
        """See the port: `virt.hotplug`."""
        self._connection.run(
            f"attach NIC {nic.mac} to domain {instance_id}",
            lambda connection: ensure_nic_attached(connection, instance_id, nic),
        )

    def ensure_nic_detached(self, instance_id: InstanceId, mac: str) -> None:
        """See the port: `virt.hotplug`."""
        self._connection.run(
            f"detach NIC {mac} from domain {instance_id}",
            lambda connection: ensure_nic_detached(connection, instance_id, mac),
        )

    def copy_disk(
        self,
        instance_id: InstanceId,
        device: str,
        target_path: str,
        progress: Progress,
        *,
        quiesce: Quiesce = Quiesce.NEVER,
    ) -> LiveCopy:
        """Copy the disk `device` of a *running* domain, whole chain flattened, to a qcow2 file, without stopping the guest.

        The copy is the disk at one point in time, quiesced or as after a power cut. A job left by a dead process is ended
        first, a guest that it left frozen thawed, and a file at `target_path` replaced. Refused when the domain is not there
        or does not run, or must be quiesced and cannot be; Contradiction when it is not ours; Retryable when the copy fails
        or stands still.
        """

        def copied(connection: libvirt.virConnect) -> LiveCopy:
            domain = look_up_ours(connection, instance_id)
            if domain is None or not is_active(domain):
                raise Refused(
                    f"cannot copy disk {device} of domain {instance_id}: it does not run; copy its file instead"
                )
            return copy_running_disk(domain, device, target_path, progress, quiesce)

        return self._connection.run(f"copy disk {device} of domain {instance_id}", copied)

    def ensure_copy_ended(self, instance_id: InstanceId, device: str) -> None:
        """QEMU copies the disk no longer: a copy belongs to QEMU, and outlives a process that is killed while it waits.

        Nor is the guest frozen for one. A domain that is off or not there copies nothing; a job of another kind is left
        alone. Contradiction when the domain is not ours.
        """

        def ended(connection: libvirt.virConnect) -> None:
            domain = look_up_ours(connection, instance_id)
            if domain is not None and is_active(domain):
                ensure_thawed(domain)
                ensure_copy_ended(domain, device)

        self._connection.run(f"end the copy of disk {device} of domain {instance_id}", ended)

    def ensure_suspended_to_disk(self, instance_id: InstanceId) -> bool:
        """Nothing of the domain runs; returns whether its memory is saved, as it is when it ran. See `virt.suspend`.

        Refused when memory that somebody else saved lies in its place; Contradiction when the domain is not ours.
        """
        return self._connection.run(
            f"save the memory of domain {instance_id}",
            lambda connection: ensure_suspended_to_disk(connection, instance_id),
        )

    def ensure_resumed(self, instance_id: InstanceId) -> None:
        """A domain whose memory we saved is as it was before; any other is left as it is. Contradiction when it is not ours.

        DoesNotFit when the host has no memory for it; its own stays saved.
        """
        self._connection.run(
            f"bring back the memory of domain {instance_id}", lambda connection: ensure_resumed(connection, instance_id)
        )

    def _facts(self, connection: libvirt.virConnect) -> HypervisorFacts:
        asked = self._ask_once(connection)
        return HypervisorFacts(
            cpus=connection.getInfo()[2],
            memory_mib=_memory_mib(connection),
            arch=asked.emulator.arch,
            virt_type=asked.virt_type,
            hypervisor_version=_version(connection.getVersion()),
            emulator=asked.emulator.emulator,
            machine=asked.emulator.machine,
            domains=connection.numOfDomains() + connection.numOfDefinedDomains(),
            support=asked.support,
            cells=asked.cells,
            cpu_model=asked.cpu_model,
            cpu_features=asked.cpu_features,
            pci_devices=list_pci_devices(connection) if self._lists_pci_devices else (),
        )

    def _ask_once(self, connection: libvirt.virConnect) -> _Asked:
        # Once per connection: it changes with qemu, the kernel, the setting or the reserved pages only, and libvirt may
        # have to start each QEMU of the host to find it out (seconds).
        if self._asked is None or self._asked.connection is not connection:
            arch, wanted = connection.getInfo()[0], virt_type_for(self._virt_type, self._read_kvm())
            if wanted is VirtType.KVM and self._virt_type == VirtTypeSetting.AUTO:
                wanted = _kvm_or_qemu(connection, arch)
            self._asked = _read_asked(connection, arch, wanted)
        return self._asked


def _read_asked(connection: libvirt.virConnect, arch: str, virt_type: VirtType) -> _Asked:
    default = connection.getDomainCapabilities(None, arch, None, virt_type)
    emulator, capabilities = parse_emulator(default), connection.getCapabilities()
    cpu_model, cpu_features = _shown_cpu(connection, default, arch)
    machines = parse_machines(capabilities, arch, virt_type)
    others = [board for board in BOARDS if machines.get(board, emulator.machine) != emulator.machine]
    boards = [connection.getDomainCapabilities(None, arch, board, virt_type) for board in others]
    return _Asked(
        connection=connection,
        virt_type=virt_type,
        emulator=emulator,
        support=parse_support(machines, [default, *boards]),
        cells=parse_cells(capabilities),
        cpu_model=cpu_model,
        cpu_features=cpu_features,
    )


def _shown_cpu(
    connection: libvirt.virConnect, domain_capabilities: str, arch: str
) -> tuple[str | None, frozenset[str]]:
    """What guests can be shown of the CPU. The capabilities name a model: which features are its own, libvirt says when asked."""
    shown = parse_shown_cpu(domain_capabilities, arch)
    if shown is None:
        return None, frozenset()
    try:
        expanded = connection.baselineCPU([shown], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _CPU_NOT_EXPANDED:
            raise
        log.warning("cpu_features_not_told", libvirt_error=str(error))
        return parse_cpu(shown)
    model, _ = parse_cpu(shown)
    return model, parse_cpu(expanded)[1]


def _define(connection: libvirt.virConnect, instance_id: InstanceId, name: str, xml: str) -> None:
    look_up_ours(connection, instance_id)
    _require_name_free(connection, instance_id, name)
    try:
        connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NAME_TAKEN:  # since we looked
            _require_name_free(connection, instance_id, name)
        raise
    log.info("domain_defined", instance_id=instance_id, name=name)


def _copy_record(connection: libvirt.virConnect, instance_id: InstanceId, copy: str) -> None:
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        return
    places = [libvirt.VIR_DOMAIN_AFFECT_CONFIG] if domain.isPersistent() else []
    places += [libvirt.VIR_DOMAIN_AFFECT_LIVE] if is_active(domain) else []
    for place in places:
        if parse_record_copy(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, place)) != copy:
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, copy, PREFIX, NAMESPACE, place)


def _require_name_free(connection: libvirt.virConnect, instance_id: InstanceId, name: str) -> None:
    try:
        uuid = connection.lookupByName(name).UUIDString()
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return
        raise
    if uuid != instance_id:
        raise Contradiction(
            f"cannot define domain {instance_id}: its name {name} is domain {uuid}'s; left alone; rename or remove that one"
        )


def _undefine(connection: libvirt.virConnect, instance_id: InstanceId) -> None:
    for _ in range(LOOKS):
        ensure_off(connection, instance_id)
        domain = look_up_ours(connection, instance_id)
        if domain is None:
            return
        try:
            call_with_known_flags(domain.undefineFlags, _UNDEFINE_FLAGS)
        except libvirt.libvirtError as error:
            if not is_no_domain(error):
                raise
        log.info("domain_undefined", instance_id=instance_id)
    if look_up_ours(connection, instance_id) is not None:
        raise Retryable(
            f"cannot undefine domain {instance_id}: it came back {LOOKS} times; see who defines or starts it"
        )


def _kvm_or_qemu(connection: libvirt.virConnect, arch: str) -> VirtType:
    # Our process can use KVM; whether libvirt's QEMU can (built with it, allowed to open it) only libvirt knows.
    try:
        connection.getDomainCapabilities(None, arch, None, VirtType.KVM)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
            raise
        log.warning("kvm_not_offered_by_libvirt", libvirt_error=str(error))
        return VirtType.QEMU
    return VirtType.KVM


def _memory_mib(connection: libvirt.virConnect) -> int:
    # Not virNodeGetInfo's first: where a NUMA cell shows less than the host has, that gives the cell's.
    try:
        return int(connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]) // KIB_PER_MIB
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    return int(connection.getInfo()[1])


def _version(number: int) -> str:
    """libvirt's 7002022 as 7.2.22 (virConnectGetVersion)."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
