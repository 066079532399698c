"""The domains of this host, through libvirt: looked up by id each time, and left alone unless they bear our metadata.

Every verb looks, compares and acts, and takes another look when libvirt says that the domain changed in between. Nothing
of a domain is remembered from one call to the next. Knows no flow; disks and links must be there before a start.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import libvirt
import structlog

from taskvisor.model.errors import Busy, Contradiction, Refused, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DomainFacts, HypervisorFacts
from taskvisor.model.states import PowerState, VirtType
from virt.blockcopy import copy_running_disk
from virt.connection import LibvirtConnection
from virt.domain.owner import NAMESPACE
from virt.kvm import KvmReadings, VirtTypeSetting, read_kvm, virt_type_for
from virt.libvirt_errors import is_no_domain, is_unknown_flag, model_error_for
from virt.progress import Progress
from virt.readback import EmulatorSeen, parse_domain, parse_emulator, parse_owner

log = structlog.get_logger(__name__)

QEMU_LOG_DIR = "/var/log/libvirt/qemu"
LOG_TAIL_BYTES = 2000
LOOKS = 5
"""How often a verb looks and acts before it gives up on a domain that keeps changing under it."""
CONFIRM_LIMIT_S = 10.0
POLL_S = 0.1

POWER_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}
"""libvirt's virDomainState in Nova's words; a state that a later libvirt adds is NOSTATE."""

_UNDEFINE_FLAGS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE,
)
_SHUTDOWN_FLAGS = (libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, 0)
"""The button and not the guest agent, which libvirt prefers by itself: the agent is the guest's and may not answer."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _GuestSupport:
    """How guests are run here, as asked over one connection."""

    connection: libvirt.virConnect
    virt_type: VirtType
    emulator: EmulatorSeen


class LibvirtHypervisor:
    """The port Hypervisor on libvirt. Making it opens nothing; the first call does, in the process that makes it.

    `virt_type` is the setting (auto, kvm, qemu). `qemu_log_dir` is where libvirt logs its guests; errors of a start quote
    it when it can be read.
    """

    def __init__(
        self,
        uri: str,
        *,
        virt_type: str = VirtTypeSetting.AUTO,
        qemu_log_dir: str = QEMU_LOG_DIR,
        read_kvm: Callable[[], KvmReadings] = read_kvm,
    ) -> None:
        self._connection = LibvirtConnection(uri)
        self._virt_type = virt_type
        self._qemu_log_dir = Path(qemu_log_dir)
        self._read_kvm = read_kvm
        self._support: _GuestSupport | None = None

    def close(self) -> None:
        """The connection is closed; the next call opens another."""
        self._connection.close()

    def read_facts(self) -> HypervisorFacts:
        """What the hypervisor says of its host. Refused when `virt_type` is kvm and guests cannot have it."""
        return self._connection.run("ask libvirt about this host", self._facts)

    def read_domain(self, instance_id: InstanceId) -> DomainFacts | None:
        """The domain as it is now; None when libvirt says that there is none."""
        return self._connection.run(
            f"look up domain {instance_id}", lambda connection: _domain_facts(connection, instance_id)
        )

    def list_domains(self) -> tuple[DomainFacts, ...]:
        """Every domain on the host, ours or not. `vnc_port` is not read here: it would take each domain's whole XML."""
        return self._connection.run("list the domains", _all_facts)

    def ensure_defined(self, instance_id: InstanceId, xml: str) -> None:
        """The domain is defined with this XML (for a running one: from its next start).

        Contradiction when a domain of that name or UUID does not bear our metadata, or the name is another instance's;
        Refused when libvirt rejects the XML, or it is not this instance's.
        """
        seen = parse_domain(xml)
        if seen.uuid != instance_id or seen.owner != instance_id:
            raise Refused(
                f"cannot define domain {instance_id}: the XML is of domain {seen.uuid}, instance {seen.owner}; "
                "render it for this instance"
            )
        self._connection.run(
            f"define domain {instance_id}", lambda connection: _define(connection, instance_id, seen.name, xml)
        )

    def ensure_running(self, instance_id: InstanceId) -> DomainFacts:
        """The domain runs: started when it was off, resumed when it was paused. Returns what libvirt then says.

        Refused when there is no such domain; Contradiction when it is not ours; DoesNotFit when the host has no memory for
        it; Retryable, with what QEMU said last, when it does not start or ends at once.
        """
        return self._connection.run(
            f"start domain {instance_id}", lambda connection: self._start(connection, instance_id)
        )

    def ensure_off(self, instance_id: InstanceId) -> None:
        """The domain does not run (pulled like a plug); a domain that is not there is off. Contradiction when not ours.

        Memory that libvirt saved of it (managed save) goes too: the next start is a cold one, with the definition then.
        """
        self._connection.run(f"stop domain {instance_id}", lambda connection: _stop(connection, instance_id))

    def ensure_undefined(self, instance_id: InstanceId) -> None:
        """No domain of that id exists, running or not. Contradiction when it is not ours."""
        self._connection.run(f"undefine domain {instance_id}", lambda connection: _undefine(connection, instance_id))

    def request_shutdown(self, instance_id: InstanceId) -> None:
        """Ask the guest to shut down (ACPI power button). Says nothing of whether it will; asking again is harmless.

        A domain that is off, or is not there, has been shut down. Contradiction when it is not ours.
        """
        self._connection.run(
            f"shut down domain {instance_id}", lambda connection: _press_button(connection, instance_id)
        )

    def copy_disk(self, instance_id: InstanceId, device: str, target_path: str, progress: Progress) -> None:
        """Copy the disk `device` of a *running* domain, whole chain flattened, to a qcow2 file, without stopping the guest.

        The copy is the disk at one point in time (crash-consistent). A job left by a dead process is ended first, and a
        file at `target_path` is replaced. Refused when the domain is not there or does not run; Contradiction when it is
        not ours; Retryable when the copy fails or stands still.
        """

        def copied(connection: libvirt.virConnect) -> None:
            domain = _look_up_ours(connection, instance_id)
            if domain is None or not domain.isActive():
                raise Refused(f"cannot copy disk {device} of domain {instance_id}: it does not run; copy its file instead")
            copy_running_disk(domain, device, target_path, progress)

        self._connection.run(f"copy disk {device} of domain {instance_id}", copied)

    def _facts(self, connection: libvirt.virConnect) -> HypervisorFacts:
        support = self._guest_support(connection)
        return HypervisorFacts(
            cpus=connection.getInfo()[2],
            memory_mib=_memory_mib(connection),
            arch=support.emulator.arch,
            virt_type=support.virt_type,
            hypervisor_version=_version(connection.getVersion()),
            emulator=support.emulator.emulator,
            machine=support.emulator.machine,
            domains=connection.numOfDomains() + connection.numOfDefinedDomains(),
        )

    def _guest_support(self, connection: libvirt.virConnect) -> _GuestSupport:
        # Asked once per connection: it changes only with qemu, the kernel or the setting.
        if self._support is None or self._support.connection is not connection:
            arch, wanted = connection.getInfo()[0], virt_type_for(self._virt_type, self._read_kvm())
            if wanted is VirtType.KVM and self._virt_type == VirtTypeSetting.AUTO:
                wanted = _kvm_or_qemu(connection, arch)
            xml = connection.getDomainCapabilities(None, arch, None, wanted)
            self._support = _GuestSupport(connection=connection, virt_type=wanted, emulator=parse_emulator(xml))
        return self._support

    def _start(self, connection: libvirt.virConnect, instance_id: InstanceId) -> DomainFacts:
        for _ in range(LOOKS):
            domain = _look_up_ours(connection, instance_id)
            if domain is None:
                raise Refused(f"cannot start domain {instance_id}: it is not defined on this host; define it first")
            state, _reason = domain.state()
            if POWER_STATES.get(state) is PowerState.RUNNING:
                return self._confirmed(connection, instance_id)
            try:
                _push_towards_running(domain, state, instance_id)
            except libvirt.libvirtError as error:
                if not _moved_on(domain, state, error):
                    raise self._start_error(domain, instance_id, error) from error
        raise Retryable(f"cannot start domain {instance_id}: it changed under each of {LOOKS} attempts; see who else uses it")

    def _confirmed(self, connection: libvirt.virConnect, instance_id: InstanceId) -> DomainFacts:
        # A guest that QEMU gives up on at once has been RUNNING for a moment; two looks apart tell.
        time.sleep(POLL_S)
        facts = _domain_facts(connection, instance_id)
        if facts is None or facts.power_state is not PowerState.RUNNING:
            now = "not there any more" if facts is None else facts.power_state.label
            raise Retryable(
                f"cannot keep domain {instance_id} running: it ended right after its start and is {now}"
                f"{self._log_tail(facts)}"
            )
        return facts

    def _start_error(
        self, domain: libvirt.virDomain, instance_id: InstanceId, error: libvirt.libvirtError
    ) -> Exception:
        del domain
        return model_error_for(error, f"start domain {instance_id}")

    def _log_tail(self, facts: DomainFacts | None) -> str:
        if facts is None:
            return ""
        try:
            with (self._qemu_log_dir / f"{facts.name}.log").open("rb") as lines:
                lines.seek(0, os.SEEK_END)
                lines.seek(max(0, lines.tell() - LOG_TAIL_BYTES))
                return f"; QEMU's log ends with: {lines.read().decode(errors='replace').strip()}"
        except OSError:
            return ""
