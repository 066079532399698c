"""Hosts in namespaces, joined by a switch, and guests with an IP stack behind the hosts' TAPs."""

import fcntl
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.links.tun import DEVICE, IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF
from taskvisor.model.network import HostLinks, Surroundings
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import open_namespace, require_empty
from tests.net.hosts import run_in

T = TypeVar("T")
UPLINK = "eth0"
PING_LIMIT_S = 10.0
MONITOR_LIMIT_S = 60.0
FRAME_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class LanHost:
    """A host: its namespace, its fabric, and its address on the switch, which eth0 has."""

    namespace: str
    fabric: LinuxFabric
    address: str

    @property
    def links(self) -> HostLinks:
        return HostLinks(uplinks={"lan": UPLINK}, tunnel_address=self.address)

    def plug(self, nic: VifPlan) -> None:
        self.run(lambda: self.fabric.ensure_plugged(nic))

    def unplug(self, nic: VifPlan) -> None:
        self.run(lambda: self.fabric.ensure_unplugged(nic))

    def tell(self, around: Surroundings) -> None:
        self.run(lambda: self.fabric.ensure_surroundings(around))

    def run(self, act: Callable[[], T]) -> T:
        return run_in(self.namespace, act)

    def ask(self, *argv: str) -> str:
        """What a program prints on that host."""
        return asked(self.namespace, *argv)


def asked(namespace: str, *argv: str) -> str:
    """What a program prints in the namespace; the test fails when the program does."""
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def no_link_is_touched(namespace: str, scratch: Path) -> Iterator[None]:
    """In the block the kernel tells of no change of any link of the host in that namespace (`ip monitor`)."""
    told = scratch / f"{namespace}-links"
    argv = ["ip", "netns", "exec", namespace, "ip", "-o", "monitor", "link"]
    with told.open("w") as file, subprocess.Popen(argv, stdout=file) as monitor:
        try:
            _await_mark(namespace, told, "mark0")
            yield
            _await_mark(namespace, told, "mark1")
            assert [line for line in told.read_text().splitlines() if "mark" not in line] == []
        finally:
            monitor.kill()


def _await_mark(namespace: str, told: Path, mark: str) -> None:
    """A link of that name was made and removed, and it was told: so what happened before it was, too."""
    deadline = time.monotonic() + MONITOR_LIMIT_S
    while not any("Deleted" in line and mark in line for line in told.read_text().splitlines()):
        assert time.monotonic() < deadline, "ip monitor told of nothing"
        asked(namespace, "ip", "link", "add", mark, "type", "bridge")
        asked(namespace, "ip", "link", "del", mark)
        time.sleep(0.1)


@contextmanager
def open_lan(state_dir: Path, count: int, *, with_addresses: bool = True) -> Iterator[tuple[LanHost, ...]]:
    """Hosts 0, 1, … on one switch, at 192.0.2.1, .2, …. Afterwards no link or process of ours may be left on them."""
    tag = state_dir.name[-6:]
    with ExitStack() as stack:
        switch = stack.enter_context(open_namespace(f"{tag}s"))
        with IPRoute(netns=switch) as inner:
            inner.link("add", ifname="sw", kind="bridge", br_stp_state=0)
            inner.link("set", index=inner.link_lookup(ifname="sw")[0], state="up")
        hosts = tuple(_join(stack, f"{tag}h{number}", switch, number, state_dir) for number in range(count))
        if with_addresses:
            for host in hosts:
                with IPRoute(netns=host.namespace) as inner:
                    inner.addr("add", index=inner.link_lookup(ifname=UPLINK)[0], address=host.address, prefixlen=24)
        yield hosts
        for host in hosts:
            require_empty(host.namespace)


def _join(stack: ExitStack, name: str, switch: str, number: int, state_dir: Path) -> LanHost:
    stack.enter_context(open_namespace(name))
    with IPRoute(netns=switch) as inner:
        inner.link("add", ifname=f"p{number}", kind="veth", peer={"ifname": UPLINK, "net_ns_fd": name})
        port = inner.link_lookup(ifname=f"p{number}")[0]
        inner.link("set", index=port, master=inner.link_lookup(ifname="sw")[0], state="up")
    with IPRoute(netns=name) as inner:
        inner.link("set", index=inner.link_lookup(ifname=UPLINK)[0], state="up")
    directory = state_dir / f"host-{number}"
    directory.mkdir(mode=0o755)
    return LanHost(namespace=name, fabric=LinuxFabric(directory), address=f"192.0.2.{number + 1}")


@dataclass(frozen=True, kw_only=True)
class WiredGuest:
    """A guest's namespace. Its eth0 is the other end of a TAP or macvtap of its host."""

    namespace: str

    def reaches(self, address: str, *, payload_bytes: int = 56, limit_s: float = PING_LIMIT_S) -> bool:
        """Whether a ping that must not be fragmented is answered in time. It is asked again and again until then."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self._pinged(address, payload_bytes):
                return True
        return False

    def never_reaches(self, address: str) -> bool:
        """Three pings, none answered."""
        return not any(self._pinged(address, 56) for _ in range(3))

    def _pinged(self, address: str, payload_bytes: int) -> bool:
        argv = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(payload_bytes), address]
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv], check=False, capture_output=True, timeout=30
        )
        return done.returncode == 0


@contextmanager
def guest_at(host: LanHost, nic: VifPlan, name: str, *, device: str = DEVICE) -> Iterator[WiredGuest]:
    """The guest of that NIC, as QEMU is: it has the device open. Frames go to and from a namespace's eth0."""
    with open_namespace(name), ExitStack() as stack:
        outer = run_in(host.namespace, lambda: _opened(nic.tap, device))
        stack.callback(os.close, outer)
        inner = run_in(name, lambda: _opened(UPLINK, DEVICE))
        stack.callback(os.close, inner)
        stack.enter_context(_wire(outer, inner))
        with IPRoute(netns=name) as stack_inside:
            index = stack_inside.link_lookup(ifname=UPLINK)[0]
            stack_inside.link("set", index=index, address=nic.mac, mtu=nic.mtu)
            stack_inside.link("set", index=index, state="up")
            stack_inside.addr("add", index=index, address=nic.address, prefixlen=nic.prefix_length)
            stack_inside.route("add", dst="default", gateway=nic.gateway)
        yield WiredGuest(namespace=name)


def _opened(name: str, device: str) -> int:
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


@contextmanager
def _wire(first: int, second: int) -> Iterator[None]:
    stop_read, stop_write = os.pipe()
    thread = threading.Thread(target=_pump, args=(first, second, stop_read))
    thread.start()
    try:
        yield
    finally:
        os.write(stop_write, b"x")
        thread.join(30)
        os.close(stop_read)
        os.close(stop_write)


def _pump(first: int, second: int, stop: int) -> None:
    others = {first: second, second: first}
    while True:
        for fd in select.select([first, second, stop], [], [])[0]:
            if fd == stop:
                return
            try:
                os.write(others[fd], os.read(fd, FRAME_BYTES))
            except OSError:
                continue  # a link that is down or gone loses frames, as a cable does
