"""libvirt's event loop, in one background thread of the process. Keep-alives need it, and so do events.

Without a running loop a client notices a hung libvirtd never: calls would wait for ever. Trap: a forked child inherits the
registration but not the thread, and libvirt lets nobody register a second loop, so a child of such a process has none.
https://libvirt.org/html/libvirt-libvirt-event.html
"""

import os
import threading
import time

import libvirt
import structlog

log = structlog.get_logger(__name__)

TICK_MS = 1000
"""The loop turns at least this often, so that a lost wake-up costs a second and no more."""
ERROR_PAUSE_S = 1.0

_lock = threading.Lock()
_owner_pid: int | None = None


def ensure_event_loop() -> bool:
    """The loop of this process runs; call it before a connection is opened.

    False in a process whose parent had it running before the fork: keep-alives do nothing there. Open libvirt after fork.
    """
    global _owner_pid  # noqa: PLW0603 - libvirt's registration is global to the process too
    with _lock:
        if _owner_pid is None:
            libvirt.virEventRegisterDefaultImpl()
            libvirt.virEventAddTimeout(TICK_MS, _tick, None)
            threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
            _owner_pid = os.getpid()
        elif _owner_pid != os.getpid():
            log.warning("libvirt_opened_before_fork", pid=os.getpid(), opened_by_pid=_owner_pid)
        return _owner_pid == os.getpid()


def _run() -> None:
    while True:  # as long as the process: a daemon thread
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.exception("libvirt_event_loop_failed", libvirt_error=str(error))
            time.sleep(ERROR_PAUSE_S)


def _tick(_timer: int, _opaque: object) -> None:
    """Nothing to do: the loop has turned."""
