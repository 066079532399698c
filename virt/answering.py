"""Calls that libvirt hands on to a QEMU, each given up after a time: a QEMU that hangs answers never.

libvirtd itself goes on then, and so do calls on other domains and looks at this one; but the call that waits for the hung
QEMU waits until somebody ends that (seen with a stopped QEMU: for ever, while further acts on the domain fail after 30 s
with VIR_ERR_OPERATION_TIMEOUT). No call of libvirt's takes a time limit, and a signal does not interrupt one. So it waits in
a thread that is left behind: it does nothing more when the answer comes. What libvirt bounds by itself, as an end by force
(virDomainDestroy), does not need this.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from taskvisor.model.errors import Retryable

SILENT_LIMIT = 8
"""So many calls may be left waiting in a process; one more is not made at all."""

T = TypeVar("T")

_places = threading.BoundedSemaphore(SILENT_LIMIT)


class QemuSilent(Retryable):
    """QEMU has not answered in time. It may yet do what it was told, when it goes on."""


def answer_within(limit_s: float, doing: str, call: Callable[[], T]) -> T:
    """What one call of libvirt's returns or raises; `doing` completes "cannot …".

    QemuSilent when there is no answer within `limit_s`, or SILENT_LIMIT others of this process have none.
    """
    if not _places.acquire(blocking=False):
        raise QemuSilent(
            f"cannot {doing}: {SILENT_LIMIT} calls of this process wait for a QEMU that does not answer; see `virsh domstats`"
        )
    waiting = _Waiting(call)
    if not waiting.ended.wait(limit_s):
        raise QemuSilent(
            f"cannot {doing}: its QEMU has not answered for {limit_s:g} s; is it stopped, or does its storage hang? "
            "A stop with no time to shut down ends it"
        )
    return waiting.answer()


class _Waiting(Generic[T]):
    """One call in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answers: list[T] = []
        self._error: Exception | None = None
        self.ended = threading.Event()
        threading.Thread(target=self._run, name="libvirt-call", daemon=True).start()

    def answer(self) -> T:
        """What the call returned, when it has ended; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._answers[0]

    def _run(self) -> None:
        try:
            self._answers.append(self._call())
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            _places.release()
            self.ended.set()
