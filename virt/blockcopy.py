"""Copying a running guest's disk, by QEMU itself (virDomainBlockCopy): the guest runs on, and the copy is one moment's.

QEMU copies the disk, then mirrors writes until source and copy are the same. Ending the job then, without pivoting to the
copy, leaves a copy as a power cut would; where the guest's agent helps, its file systems are frozen for that moment. The
job belongs to QEMU and outlives us, so it is ended on every way out.
https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCopy
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import structlog

from taskvisor.model.errors import Busy, Retryable
from taskvisor.model.snapshot import LiveCopy, Quiesce
from taskvisor.model.states import ImageFormat
from virt.domain.disk import CopyTargetConfig
from virt.progress import Progress
from virt.quiesce import ensure_thawed, quiesced, require_quiescible

log = structlog.get_logger(__name__)

POLL_S = 0.25
STALL_LIMIT_S = 120.0
END_LIMIT_S = 60.0
PASSES_LIMIT = 8
"""A copy that has moved this many times the disk's size is losing against a guest that writes faster than it copies."""
_FOREIGN_DELAY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A block job as libvirt reports it. libvirt keeps `done_bytes` below `total_bytes` until both sides are the same."""

    kind: int
    done_bytes: int
    total_bytes: int

    @property
    def is_synced(self) -> bool:
        return self.done_bytes == self.total_bytes > 0


def copy_running_disk(
    domain: libvirt.virDomain, device: str, target_path: str, progress: Progress, quiesce: Quiesce
) -> LiveCopy:
    """`target_path` is a new qcow2 with all that the disk held at the end of the copy; no job is left, and nothing frozen.

    Retryable when the copy fails, stands still for STALL_LIMIT_S or cannot keep up with the guest; Busy when a job of
    another kind holds the disk; Refused when it must be quiesced and cannot be. What `progress` raises passes through,
    the job ended.
    """
    ensure_thawed(domain)
    ensure_copy_ended(domain, device)
    _require_no_job(domain, device)
    require_quiescible(domain, quiesce)
    Path(target_path).unlink(missing_ok=True)  # of an earlier try; libvirt does not write over a file
    size_bytes = domain.blockInfo(device)[0]
    # Transient: the job must not be a reason for libvirt to refuse a persistent domain; it need not outlive the guest.
    domain.blockCopy(
        device,
        CopyTargetConfig(path=target_path, format=ImageFormat.QCOW2).to_xml(),
        None,
        libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
    )
    with _ended_on_error(domain, device):
        _wait_until_synced(domain, device, size_bytes, progress)
        with quiesced(domain, quiesce) as copy:
            ensure_copy_ended(domain, device)  # QEMU ends it when the copy has all that the guest had written
    progress(size_bytes, size_bytes)
    return copy


def ensure_copy_ended(domain: libvirt.virDomain, device: str) -> None:
    """No copy of the disk is under way, and the guest uses its own disk. A job of another kind is left alone."""
    deadline = time.monotonic() + END_LIMIT_S
    while (job := _read_job(domain, device)) is not None and job.kind == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY:
        if time.monotonic() > deadline:
            raise Retryable(
                f"cannot end the copy of disk {device} of domain {domain.UUIDString()}: it is still there "
                f"{END_LIMIT_S} s after it was aborted; look at it with virsh blockjob"
            )
        _abort(domain, device)


def _require_no_job(domain: libvirt.virDomain, device: str) -> None:
    job = _read_job(domain, device)
    if job is not None:
        raise Busy(
            f"cannot copy disk {device} of domain {domain.UUIDString()}: a block job of kind {job.kind}, not ours, "
            "works on it; wait, or end it with virsh blockjob",
            delay_s=_FOREIGN_DELAY_S,
        )


def _wait_until_synced(domain: libvirt.virDomain, device: str, size_bytes: int, progress: Progress) -> None:
    most_bytes, stall_at = -1, time.monotonic() + STALL_LIMIT_S
    while True:
        job = _read_job(domain, device)
        if job is None:
            raise _failed(domain, device, "QEMU ended it early; is the target's file system full?")
        progress(job.done_bytes, job.total_bytes)
        if job.is_synced:
            return
        if job.done_bytes > most_bytes:
            most_bytes, stall_at = job.done_bytes, time.monotonic() + STALL_LIMIT_S
        elif time.monotonic() > stall_at:
            raise _failed(domain, device, f"it has not moved for {STALL_LIMIT_S} s at {job.done_bytes} bytes")
        if job.done_bytes > PASSES_LIMIT * max(size_bytes, 1):
            raise _failed(domain, device, "the guest writes faster than the copy; try when it writes less")
        time.sleep(POLL_S)


@contextlib.contextmanager
def _ended_on_error(domain: libvirt.virDomain, device: str) -> Iterator[None]:
    try:
        yield
    except BaseException:  # also a time limit's: QEMU would copy on, and keep the target open
        try:
            ensure_copy_ended(domain, device)
        except (libvirt.libvirtError, Retryable) as error:  # the first error is the one to tell
            log.warning("copy_not_ended", domain=domain.UUIDString(), device=device, reason=str(error))
        raise


def _read_job(domain: libvirt.virDomain, device: str) -> _Job | None:
    found = domain.blockJobInfo(device)
    if not found:
        return None
    return _Job(kind=found["type"], done_bytes=found["cur"], total_bytes=found["end"])


def _abort(domain: libvirt.virDomain, device: str) -> None:
    try:
        domain.blockJobAbort(device)  # returns when QEMU has let go of the target
    except libvirt.libvirtError as error:
        # It may have ended by itself since we looked; whether it has, the next look tells.
        log.info("block_job_abort_refused", domain=domain.UUIDString(), device=device, libvirt_error=str(error))
        time.sleep(POLL_S)


def _failed(domain: libvirt.virDomain, device: str, what: str) -> Retryable:
    return Retryable(f"cannot copy disk {device} of domain {domain.UUIDString()}: {what}")
