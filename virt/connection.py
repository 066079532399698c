"""This process's connection to libvirt: opened after fork, opened anew when libvirtd was restarted, bounded in time.

A call is bounded by keep-alives: when libvirtd says nothing for KEEPALIVE_INTERVAL_S x KEEPALIVE_COUNT, the call fails.
They are answered by libvirtd's main thread, so a long call is not mistaken for a hang. What they don't bound is a
libvirtd that lives while its worker is stuck in a hung qemu: calls that only ask qemu for something are made by
`answering.answer_within`; the rest is left to the step's own time limit, which ends the process.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import libvirt
import structlog

from taskvisor.model.errors import CannotAsk
from virt.event_loop import ensure_event_loop
from virt.libvirt_errors import REOPEN_DELAY_S, is_broken_connection, model_error_for

log = structlog.get_logger(__name__)

KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 5
OPEN_LIMIT_S = 15.0

T = TypeVar("T")


class LibvirtConnection:
    """One connection, shared by all threads of the process. Making it opens nothing."""

    def __init__(self, uri: str, *, before_close: Callable[[libvirt.virConnect], None] | None = None) -> None:
        """`before_close` is told of each connection that is about to be closed, broken or not; it must not raise."""
        self._uri = uri
        self._before_close = before_close
        self._lock = threading.RLock()
        self._connection: libvirt.virConnect | None = None
        self._pid = 0
        self._opening: _Opening | None = None
        self._inherited: list[object] = []  # kept for ever: closing it would speak on the parent's socket

    def run(self, doing: str, action: Callable[[libvirt.virConnect], T]) -> T:
        """What `action` returns for a live connection; `doing` completes "cannot …" in errors.

        The action must converge: when a connection that was open before turns out to be broken, as after a restart of
        libvirtd, a new one is opened and the action is run once more. libvirtErrors become model errors
        (`model_error_for`); CannotAsk when libvirtd cannot be reached.
        """
        for is_last in (False, True):
            connection, is_new = self._open(doing)
            try:
                return action(connection)
            except libvirt.libvirtError as error:
                if not self._lost(connection, error):
                    raise model_error_for(error, doing) from error
                if is_new or is_last:
                    raise self._unreachable(doing, error) from error
                log.warning("libvirt_connection_lost", uri=self._uri, libvirt_error=str(error))
        raise AssertionError("unreachable: the last go returns or raises")

    def close(self) -> None:
        """The connection is closed. The next `run` opens another."""
        with self._lock:
            self._leave_to_parent()
            self._drop()

    def _open(self, doing: str) -> tuple[libvirt.virConnect, bool]:
        with self._lock:
            self._leave_to_parent()
            if self._connection is not None and self._connection.isAlive():
                return self._connection, False
            self._drop()
            self._pid = os.getpid()
            try:
                self._connection = self._opened(doing)
            except libvirt.libvirtError as error:
                raise self._unreachable(doing, error) from error
            log.info("libvirt_connection_opened", uri=self._uri)
            return self._connection, True

    def _opened(self, doing: str) -> libvirt.virConnect:
        # One attempt at a time, however often we are asked: each may hang in a thread of its own.
        self._opening = self._opening or _Opening(self._uri)
        if not self._opening.wait(OPEN_LIMIT_S):
            raise CannotAsk(
                f"cannot {doing}: libvirtd takes connections at {self._uri} but has not answered for {OPEN_LIMIT_S} s; "
                "see whether it hangs",
                delay_s=REOPEN_DELAY_S,
            )
        opening, self._opening = self._opening, None
        return opening.result()

    def _lost(self, connection: libvirt.virConnect, error: libvirt.libvirtError) -> bool:
        """Whether the error is the connection's; if so the connection is dropped."""
        if not is_broken_connection(error) and connection.isAlive():
            return False
        with self._lock:
            if self._connection is connection:
                self._drop()
        return True

    def _unreachable(self, doing: str, error: libvirt.libvirtError) -> CannotAsk:
        return CannotAsk(
            f"cannot {doing}: libvirtd does not answer at {self._uri} ({error.get_error_message()}); "
            "see whether it runs on this host",
            delay_s=REOPEN_DELAY_S,
        )

    def _leave_to_parent(self) -> None:
        if self._pid not in (0, os.getpid()):
            self._inherited += [self._connection, self._opening]
            self._connection, self._opening, self._pid = None, None, 0

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._before_close is not None:
                self._before_close(connection)
            with contextlib.suppress(libvirt.libvirtError):  # it was broken; there is nobody to say goodbye to
                connection.close()


class _Opening:
    """An attempt to open a connection, in a thread: a libvirtd that hangs lets `open` wait for ever."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection: libvirt.virConnect | None = None
        self._error: Exception | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="libvirt-open", daemon=True).start()

    def wait(self, limit_s: float) -> bool:
        """Whether the attempt has ended within the limit."""
        return self._ended.wait(limit_s)

    def result(self) -> libvirt.virConnect:
        """The connection of an attempt that has ended; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._connection

    def _run(self) -> None:
        try:
            self._connection = _open(self._uri)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._ended.set()


def _open(uri: str) -> libvirt.virConnect:
    # libvirt prints every error to stderr, also those that we expect; they reach us as exceptions anyway.
    libvirt.registerErrorHandler(_be_silent, None)
    has_loop = ensure_event_loop()
    connection = libvirt.open(uri)
    if has_loop:
        try:
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:  # test:///: it lives in this process
                raise
    return connection


def _be_silent(_context: object, _error: object) -> None:
    """The error is raised as well."""
