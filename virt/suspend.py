"""A domain of ours off and on again with nothing lost: its memory saved by libvirt (managed save), its disks at rest.

That the memory is ours to bring back is noted on the definition before it is saved, and the note goes when the guest runs
again. Memory that bears no such note was saved by somebody else, and is neither brought back nor written over.
https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainManagedSave
"""

import time

import libvirt
import structlog

from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.ids import InstanceId
from virt.libvirt_errors import is_no_domain
from virt.lookup import is_active, look_up_ours
from virt.notes import Note, ensure_no_note, ensure_note, has_note

log = structlog.get_logger(__name__)

LOOKS = 5
ABORT_LIMIT_S = 60.0
TAKEN_UP_LIMIT_S = 5.0
"""A save that was asked for by a process that has died since is begun by libvirtd within so long, or never: a guest that was
to be saved and still runs is watched before it is believed to run on."""
PAUSE_S = 0.1


def ensure_suspended_to_disk(connection: libvirt.virConnect, instance_id: InstanceId) -> bool:
    """See `Hypervisor.ensure_suspended_to_disk`."""
    for _ in range(LOOKS):
        domain = look_up_ours(connection, instance_id)
        if domain is None:
            return False
        if not is_active(domain):
            return has_note(domain, Note.SUSPENDED) and bool(domain.hasManagedSaveImage())
        _require_no_foreign_memory(domain)
        ensure_note(domain, Note.SUSPENDED)
        _save(domain)
    raise Retryable(
        f"cannot save the memory of domain {instance_id}: it ran again after each of {LOOKS} times; see who starts it"
    )


def ensure_resumed(connection: libvirt.virConnect, instance_id: InstanceId) -> None:
    """See `Hypervisor.ensure_resumed`."""
    brought_back = False
    for _ in range(LOOKS):
        domain = look_up_ours(connection, instance_id)
        if domain is None or not has_note(domain, Note.SUSPENDED):
            return
        if brought_back or _stays_active(domain):
            _forget(domain)
            return
        if is_active(domain):
            continue
        if not domain.hasManagedSaveImage():
            # A power cut before it was whole, or somebody removed it: what is left is a guest that is off.
            log.warning("saved_memory_gone", instance_id=instance_id)
            ensure_no_note(domain, Note.SUSPENDED)
            return
        _start(domain)
        brought_back = is_active(domain)
    raise Retryable(
        f"cannot bring back the memory of domain {instance_id}: it was off again after each of {LOOKS} starts; its memory "
        "is kept, see what QEMU's log says"
    )


def _require_no_foreign_memory(domain: libvirt.virDomain) -> None:
    if domain.hasManagedSaveImage() and not has_note(domain, Note.SUSPENDED):
        raise Refused(
            f"cannot save the memory of domain {domain.UUIDString()}: memory that somebody else saved lies in its place; "
            "left alone: see virsh managedsave-dumpxml, and virsh managedsave-remove"
        )


def _save(domain: libvirt.virDomain) -> None:
    try:
        domain.managedSave()
    except libvirt.libvirtError as error:
        if is_no_domain(error) or not is_active(domain):  # it ended by itself, or a dead process's save has
            return
        raise
    log.info("guest_suspended_to_disk", domain=domain.UUIDString())


def _start(domain: libvirt.virDomain) -> None:
    try:
        domain.create()  # libvirt takes the saved memory, and removes it once the guest has it
    except libvirt.libvirtError as error:
        if is_no_domain(error) or is_active(domain):
            return
        raise
    log.info("guest_resumed_from_disk", domain=domain.UUIDString())


def _forget(domain: libvirt.virDomain) -> None:
    """Memory that is left though the guest runs would, at its next start, be older than its disk."""
    if domain.hasManagedSaveImage():
        domain.managedSaveRemove()
    ensure_no_note(domain, Note.SUSPENDED)


def _stays_active(domain: libvirt.virDomain) -> bool:
    """Whether it runs, is not being saved, and is not about to be: see TAKEN_UP_LIMIT_S."""
    deadline = time.monotonic() + TAKEN_UP_LIMIT_S
    while is_active(domain):
        _ensure_not_being_saved(domain)
        if time.monotonic() > deadline:
            return is_active(domain)
        time.sleep(PAUSE_S)
    return False


def _ensure_not_being_saved(domain: libvirt.virDomain) -> None:
    """A save outlives the process that asked for it. Aborted, it leaves the guest running as it was."""
    deadline = time.monotonic() + ABORT_LIMIT_S
    while _is_being_saved(domain):
        if time.monotonic() > deadline:
            raise Retryable(
                f"cannot end the saving of the memory of domain {domain.UUIDString()}: it goes on {ABORT_LIMIT_S} s after "
                "it was aborted; look at it with virsh domjobinfo"
            )
        try:
            domain.abortJob()
        except libvirt.libvirtError as error:  # it may have ended since we looked; the next look tells
            log.info("save_abort_refused", domain=domain.UUIDString(), libvirt_error=str(error))
        time.sleep(PAUSE_S)


def _is_being_saved(domain: libvirt.virDomain) -> bool:
    try:
        job = domain.jobStats()
    except libvirt.libvirtError as error:
        if is_no_domain(error) or error.get_error_code() in _NO_JOBS:
            return False
        raise
    return bool(job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE and job["type"] in _GOING_ON)


_NO_JOBS = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT)  # off since we looked; a driver without jobs
_GOING_ON = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
