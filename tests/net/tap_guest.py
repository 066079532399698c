"""A guest with an IP stack behind the very TAP that a plug made: a namespace, whose NIC is wired to the TAP as QEMU would be.

The wire is a process of its own that has the host's TAP open, as QEMU has, and one in the guest's namespace; it carries frames
from each to the other. Some hundred Mbit/s, which is fast beside any limit that a test sets.
"""

import errno
import fcntl
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyroute2 import IPRoute

from net.links.tun import DEVICE, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in

NIC = "eth0"
FRAME_BYTES = 65536 + 64


@contextmanager
def open_tap_guest(vif: VifPlan, namespace: str) -> Iterator[str]:
    """The guest of that NIC, with its address and default route, in a namespace of that name."""
    with open_namespace(namespace), _wired(vif, namespace):
        with IPRoute(netns=namespace) as inner:
            index = inner.link_lookup(ifname=NIC)[0]
            inner.link("set", index=index, address=vif.mac, mtu=vif.mtu, state="up")
            inner.addr("add", index=index, address=vif.address, prefixlen=vif.prefix_length)
            inner.route("add", dst="default", gateway=vif.gateway)
        yield namespace


def open_tap(name: str, *, queues: int = 1) -> int:
    """One queue of the TAP of that name, as QEMU opens it; made when there is none, for as long as it is open."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if queues > 1 else 0)
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def _wired(vif: VifPlan, namespace: str) -> Iterator[None]:
    ends = open_tap(vif.tap, queues=vif.queues), run_in(namespace, lambda: open_tap(NIC))
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _carry(*ends)
        finally:
            os._exit(0)
    for fd in ends:
        os.close(fd)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _carry(one: int, other: int) -> None:
    across = {one: other, other: one}
    for fd in across:
        os.set_blocking(fd, False)
    while True:
        for fd in select.select(list(across), [], [])[0]:
            _pass_on(fd, across[fd])


def _pass_on(source: int, target: int) -> None:
    for _ in range(64):  # then the other way has its turn
        try:
            frame = os.read(source, FRAME_BYTES)
            os.write(target, frame)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # the target is down, as a cable may be
                raise
