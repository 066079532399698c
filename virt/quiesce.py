"""Freezing a guest's file systems for a moment, by the agent in the guest (virDomainFSFreeze, virDomainFSThaw).

Invariant: no guest is left frozen. What we are about to freeze is noted on the domain first, and the note goes only when
the guest is thawed, or has ended: so whoever comes after a crash knows that a thaw is due. Who is thawed twice is thawed;
what somebody else froze bears no note of ours and is left alone.

Only an agent that has just answered is asked to freeze. One that falls silent then may have heard, and freeze late: it is
told to thaw, which it reads after.
https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
"""

import contextlib
import time
from collections.abc import Iterator

import libvirt
import structlog

from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.snapshot import LiveCopy, Quiesce
from virt.libvirt_errors import is_broken_connection
from virt.lookup import is_active
from virt.notes import Note, ensure_no_note, ensure_note, has_note

log = structlog.get_logger(__name__)

ANSWER_LIMIT_S = 10
"""Of each answer of the agent. libvirt's default is to wait for ever for it. It stays so after a copy, for other callers too."""
THAW_LIMIT_S = 60.0
PAUSE_S = 0.5

_SILENT = frozenset(
    {libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED, libvirt.VIR_ERR_OPERATION_TIMEOUT}
)
_NO_LIMITS = frozenset({libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_AGENT_UNRESPONSIVE})


def require_quiescible(domain: libvirt.virDomain, quiesce: Quiesce) -> None:
    """Refused, before anything is copied, when quiescing is required and the guest's agent does not answer."""
    if quiesce is Quiesce.REQUIRED and (obstacle := _obstacle(domain)) is not None:
        raise _refused(domain, obstacle)


@contextlib.contextmanager
def quiesced(domain: libvirt.virDomain, quiesce: Quiesce) -> Iterator[LiveCopy]:
    """While it is entered, the guest's file systems are frozen, if that is wished and can be; what is yielded says so.

    However it is left, the guest is thawed, or Retryable says that it could not be. Refused when it is required and failed.
    """
    obstacle = "it was not asked for" if quiesce is Quiesce.NEVER else _obstacle(domain) or _freeze(domain)
    if obstacle is not None and quiesce is Quiesce.REQUIRED:
        raise _refused(domain, obstacle)
    began_at = time.monotonic()
    try:
        yield LiveCopy(quiesced=obstacle is None, why_not=obstacle)
    finally:
        ensure_thawed(domain)
    if obstacle is None:
        log.info("guest_thawed", domain=domain.UUIDString(), frozen_s=round(time.monotonic() - began_at, 3))


def ensure_thawed(domain: libvirt.virDomain) -> None:
    """No file system of the running guest is frozen by us. Retryable when its agent does not say so in THAW_LIMIT_S."""
    deadline = time.monotonic() + THAW_LIMIT_S
    while is_active(domain) and has_note(domain, Note.FROZEN):
        try:
            domain.fsThaw()
            ensure_no_note(domain, Note.FROZEN)
        except libvirt.libvirtError as error:
            if is_broken_connection(error):
                raise
            if time.monotonic() > deadline:
                raise Retryable(
                    f"cannot thaw the file systems of domain {domain.UUIDString()}, which were frozen for a copy: its agent "
                    f"says {error.get_error_message()!r}; run virsh domfsthaw, or reset the guest"
                ) from error
            log.warning("thaw_failed", domain=domain.UUIDString(), libvirt_error=str(error))
            time.sleep(PAUSE_S)


def _obstacle(domain: libvirt.virDomain) -> str | None:
    """Why its file systems cannot be frozen; None when it runs and its agent has just answered."""
    if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
        return "the guest is paused"
    try:
        _limit_answers(domain)
        domain.getTime()  # of all that an agent can be asked, the least; a frozen one refuses it
    except libvirt.libvirtError as error:
        return _said_by_guest(error)
    return None


def _freeze(domain: libvirt.virDomain) -> str | None:
    """The guest is frozen; or why not."""
    ensure_note(domain, Note.FROZEN)
    try:
        count = domain.fsFreeze()
    except libvirt.libvirtError as error:
        said = _said_by_guest(error)
        if error.get_error_code() in _SILENT:
            ensure_thawed(domain)
        else:
            ensure_no_note(domain, Note.FROZEN)  # its own word: an agent that fails to freeze has thawed again
        return said
    log.info("guest_frozen", domain=domain.UUIDString(), file_systems=count)
    return None


def _limit_answers(domain: libvirt.virDomain) -> None:
    try:
        domain.agentSetResponseTimeout(ANSWER_LIMIT_S, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NO_LIMITS:
            raise


def _said_by_guest(error: libvirt.libvirtError) -> str:
    if is_broken_connection(error):  # not the guest's word
        raise error
    return str(error.get_error_message())


def _refused(domain: libvirt.virDomain, obstacle: str) -> Refused:
    return Refused(
        f"cannot quiesce domain {domain.UUIDString()}, as the request or its image (os_require_quiesce) requires: "
        f"{obstacle}; see that qemu-guest-agent runs in the guest, or ask with quiesce auto"
    )
