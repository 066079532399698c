"""A person at a guest's serial console: `python -m virt.serial_console URI ID NAME [force]`, on its host. A door to libvirt.

A process of its own, with a libvirt of its own. The terminal is raw meanwhile, so that every key is the guest's but ctrl-]; it is
put back however this ends, but by SIGKILL: who started this puts it back once more (`taskvisor.cli.processes`).

The stream is not blocking. libvirt's event loop says that something is to be read and falls silent; the main thread reads, shows,
and asks to be told again: so a terminal that is held by ctrl-S holds the guest's output up, and nothing piles up here.
https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainOpenConsole
https://libvirt.org/html/libvirt-libvirt-stream.html#virStreamEventAddCallback
"""

import contextlib
import logging
import os
import selectors
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from enum import Enum

import libvirt
import structlog

from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.ids import InstanceId
from virt.connection import LibvirtConnection
from virt.libvirt_xml import parse_tree
from virt.lookup import look_up_ours

LEAVE = b"\x1d"
"""ctrl-], as telnet and virsh have it."""
CHUNK_BYTES = 1 << 16
TYPED_LIMIT_BYTES = 1 << 12
"""What a guest that does not read its console is sent; further keys wait in the terminal."""
LOOK_S = 0.5
WOULD_BLOCK = -2
TOLD = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
FAILED_CODE = 1


class End(Enum):
    """How a session ended."""

    LEFT = "left"
    GUEST_GONE = "the guest is off, or somebody else took its console"


def parse_console_alias(domain_xml: str) -> str | None:
    """The alias of the first serial port that a person can attach to: one with a pty. None when there is none.

    In Nova's dialect the first port only writes a log, and the second is the one.
    """
    tree = parse_tree(domain_xml, "domain")
    for port in tree.iterfind("devices/serial[@type='pty']"):
        alias = port.find("alias")
        if alias is not None:
            return alias.get("name")
    return None


class Session:
    """One stream between a terminal and a guest. Used by one thread; `close` it."""

    def __init__(self, stream: libvirt.virStream, keyboard: int, screen: int) -> None:
        self._stream, self._keyboard, self._screen = stream, keyboard, screen
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._typed = b""
        self._stream.eventAddCallback(TOLD, self._hear, None)

    def run(self) -> End:
        """Carries bytes both ways until ctrl-] or the stream's end. libvirtError when the stream breaks."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._keyboard, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(LOOK_S)}
                if self._keyboard in ready and len(self._typed) < TYPED_LIMIT_BYTES and self._take_keys():
                    return End.LEFT
                if self._woken in ready and self._show():
                    return End.GUEST_GONE
                self._send()

    def close(self) -> None:
        """Nothing is heard of the stream any more, and libvirt knows that nobody attends."""
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()
        os.close(self._woken)
        os.close(self._wake)

    def _hear(self, stream: libvirt.virStream, events: int, opaque: object) -> None:  # noqa: ARG002 - libvirt's signature
        """In libvirt's event loop, which must not wait: nothing more is told until what there is was read."""
        with contextlib.suppress(libvirt.libvirtError, OSError):
            stream.eventUpdateCallback(0)
            os.write(self._wake, b".")

    def _take_keys(self) -> bool:
        """Whether the person leaves. What was typed before still goes to the guest."""
        keys = os.read(self._keyboard, CHUNK_BYTES)
        before, leave, _ = keys.partition(LEAVE)
        self._typed += before
        self._send()
        return bool(leave) or not keys

    def _send(self) -> None:
        while self._typed:
            sent = self._stream.send(self._typed)
            if sent == WOULD_BLOCK:
                return
            self._typed = self._typed[sent:]

    def _show(self) -> bool:
        """All that there is, on the screen. Whether the stream has ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, CHUNK_BYTES)
        while True:
            chunk = self._stream.recv(CHUNK_BYTES)
            if chunk == WOULD_BLOCK:
                self._stream.eventUpdateCallback(TOLD)
                return False
            if not chunk:
                return True
            while chunk:
                chunk = chunk[os.write(self._screen, chunk) :]


@contextlib.contextmanager
def raw_terminal(keyboard: int) -> Iterator[None]:
    """Every key as it comes; the terminal is as it was however the block ends. SIGTERM and SIGHUP are SystemExit."""
    before = termios.tcgetattr(keyboard)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_for)
    try:
        tty.setraw(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


def _end_for(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def attend(uri: str, instance_id: InstanceId, name: str, *, flags: int) -> End:
    """Lets the person of this terminal attend the guest's console. Refused when it is off or has none; CannotAsk and its kin."""
    connection = LibvirtConnection(uri)
    try:
        return connection.run(f"open the console of {name}", lambda live: _attend(live, instance_id, name, flags))
    finally:
        connection.close()


def _attend(connection: libvirt.virConnect, instance_id: InstanceId, name: str, flags: int) -> End:
    domain = look_up_ours(connection, instance_id)
    if domain is None or not domain.isActive():
        raise Refused(f"{name} is off; start it, or read what it said before: taskvisor console-log {name}")
    alias = parse_console_alias(domain.XMLDesc())
    if alias is None:
        raise Refused(f"{name} has no serial port that can be attached to")
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    try:
        domain.openConsole(alias, stream, flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
            raise Refused(f"the console of {name} is in use; --force takes it from whoever has it") from error
        raise
    session = Session(stream, sys.stdin.fileno(), sys.stdout.fileno())
    try:
        with raw_terminal(sys.stdin.fileno()):
            return session.run()
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
        return End.GUEST_GONE  # the stream alone was ended: that is how somebody else's --force shows
    finally:
        session.close()


def main() -> int:
    """Attends, and says on standard error how it ended."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    libvirt.registerErrorHandler(lambda *_: None, None)  # it would print onto the console
    uri, instance_id, name, *words = sys.argv[1:]
    flags = libvirt.VIR_DOMAIN_CONSOLE_FORCE if words == ["force"] else libvirt.VIR_DOMAIN_CONSOLE_SAFE
    try:
        end = attend(uri, InstanceId(instance_id), name, flags=flags)
    except TaskvisorError as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return FAILED_CODE
    said = f"left the console of {name}" if end is End.LEFT else f"the console of {name} has ended: {end.value}"
    print(f"\n{said}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
