"""A guest with a kernel's own network stack behind its TAP: what QEMU does, and a namespace for the guest."""

import fcntl
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

from net.links.tun import DEVICE, IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in

FRAME_LIMIT_BYTES = 65536
JOIN_LIMIT_S = 30.0


@contextmanager
def stack_behind(tap: str, mac: str, name: str) -> Iterator[str]:
    """A namespace called `name` whose eth0 has that MAC, and is up, and is joined frame by frame to the TAP, which exists."""
    with open_namespace(name), _opened(tap) as outer:
        inner = run_in(name, lambda: _open("eth0"))
        stop, stopped = os.pipe()
        pump = threading.Thread(target=_pump, args=(outer, inner, stop))
        try:
            with IPRoute(netns=name) as netlink:
                index = netlink.link_lookup(ifname="eth0")[0]
                netlink.link("set", index=index, address=mac)
                netlink.link("set", index=index, state="up")
            pump.start()
            yield name
        finally:
            os.close(stopped)
            pump.join(JOIN_LIMIT_S)
            for fd in (inner, stop):
                os.close(fd)


def give_address(namespace: str, address: str, *, prefix_length: int = 24, on_link: tuple[str, ...] = ()) -> None:
    """eth0 holds the address, and reaches those others without a router."""
    with IPRoute(netns=namespace) as netlink:
        index = netlink.link_lookup(ifname="eth0")[0]
        netlink.addr("add", index=index, address=address, prefixlen=prefix_length)
        for other in on_link:
            netlink.route("add", dst=f"{other}/32", oif=index, scope="link")


@contextmanager
def _opened(tap: str) -> Iterator[int]:
    fd = _open(tap)
    try:
        yield fd
    finally:
        os.close(fd)


def _open(tap: str) -> int:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(tap.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def _pump(one: int, other: int, stop: int) -> None:
    towards = {one: other, other: one}
    while stop not in (ready := select.select([one, other, stop], [], [])[0]):
        for fd in ready:
            frame = os.read(fd, FRAME_LIMIT_BYTES)
            try:
                os.write(towards[fd], frame)
            except OSError:
                continue  # the other side is down: a cable that is not plugged in
