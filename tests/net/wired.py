"""Guests with an IP stack of their own behind the very TAPs that the fabric made, and what they send and hear.

A guest is a network namespace with a TAP `eth0`; a thread carries frames between that and the host's TAP, as QEMU does.
"""

import fcntl
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pyroute2 import IPRoute

from net.links.tun import DEVICE, IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in

ARRIVAL_LIMIT_S = 20.0
SILENCE_S = 0.4
"""How long nothing must come before it is taken for dropped; what comes is always preceded by a proof that the way is open."""
ETH_P_ALL = 3


@dataclass(frozen=True, kw_only=True)
class Wired:
    """A guest on the wire: its namespace, and the host's end of its TAP."""

    namespace: str
    vif: VifPlan
    fd: int

    def send(self, frame: bytes) -> None:
        """The guest puts a frame on its wire, whatever is in it."""
        os.write(self.fd, frame)

    def listen(self) -> socket.socket:
        """All frames that reach the guest from now on."""

        def opened() -> socket.socket:
            heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            heard.bind(("eth0", ETH_P_ALL))
            return heard

        return run_in(self.namespace, opened)


def arrivals(heard: socket.socket, markers: Sequence[bytes], *, last: bytes) -> dict[bytes, int]:
    """How many frames with each marker came before the one with the marker `last`, which must come."""
    counts = dict.fromkeys(markers, 0)
    deadline = time.monotonic() + ARRIVAL_LIMIT_S
    while (left := deadline - time.monotonic()) > 0:
        heard.settimeout(left)
        try:
            frame, sender = heard.recvfrom(65536)
        except TimeoutError:
            break
        if sender[2] == socket.PACKET_OUTGOING:
            continue
        for marker in markers:
            counts[marker] += marker in frame
        if last in frame:
            return counts
    raise AssertionError(f"the frame that proves the way is open ({last!r}) did not come")


@contextmanager
def wired(*vifs: VifPlan) -> Iterator[tuple[Wired, ...]]:
    """Guests behind the plugged TAPs of these NICs, with their addresses."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_wired(vif)) for vif in vifs)


@contextmanager
def _wired(vif: VifPlan) -> Iterator[Wired]:
    name = f"g{os.getpid()}-{vif.port_id[:8]}"  # tests of several processes run side by side
    with open_namespace(name):
        outside, inside = _open_tap(vif.tap), run_in(name, lambda: _open_tap("eth0"))
        _configure(name, vif)
        stopped, stop = os.pipe()
        carrier = threading.Thread(target=_carry, args=(outside, inside, stopped), daemon=True)
        carrier.start()
        try:
            yield Wired(namespace=name, vif=vif, fd=outside)
        finally:
            os.write(stop, b"x")
            carrier.join(ARRIVAL_LIMIT_S)
            for fd in (outside, inside, stopped, stop):
                os.close(fd)


def _open_tap(name: str) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI))
    os.set_blocking(fd, False)
    return fd


def _configure(namespace: str, vif: VifPlan) -> None:
    with IPRoute(netns=namespace) as inner:
        index = inner.link_lookup(ifname="eth0")[0]
        inner.link("set", index=index, address=vif.mac, mtu=vif.mtu)
        inner.link("set", index=index, state="up")
        inner.addr("add", index=index, address=vif.address, prefixlen=vif.prefix_length)
        inner.route("add", dst="default", gateway=vif.gateway)
        if vif.address6 is not None:
            inner.addr("add", index=index, address=vif.address6, prefixlen=64, flags=0x02)  # IFA_F_NODAD


def _carry(one: int, other: int, stopped: int) -> None:
    while True:
        ready = select.select([one, other, stopped], [], [])[0]
        if stopped in ready:
            return
        for source, target in ((one, other), (other, one)):
            if source in ready:
                try:
                    os.write(target, os.read(source, 65536))
                except OSError:  # a link that is down, or a full queue: a wire loses frames, too
                    continue
