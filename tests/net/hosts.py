"""All that our side can leave on a host, read in one piece so that tests compare whole worlds."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, netns

from net.filters.chains import Listing as PortListing
from net.filters.diversion import table_name_for
from net.filters.firewall import read_listing
from net.filters.port_filters import read_port_listing
from net.filters.ruleset import Listing
from net.links.link import VXLAN, Link
from net.links.neighbours import open_neighbours
from net.links.netlink import ROUTE_PROTOCOL, open_netlink
from net.services.dnsmasq import PROGRAM
from net.services.process import PROC
from tests.fixtures.machine import run_or_fail
from tests.fixtures.namespaces import open_namespace

LIMIT_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SeenLink:
    """A link, without what differs each time it is made."""

    name: str
    kind: str | None
    alias: str | None
    mtu: int
    master: str | None
    up: bool


@dataclass(frozen=True, kw_only=True)
class World:
    """The links but for lo, their IPv4 addresses, our tables, networks' directories and files, our daemons' command lines,
    the ways to guests (entries of tunnels and neighbours, routes of ours), by what the connections of ports were judged, and what
    limits ports: token buckets by link and rate, and detours.
    """

    links: frozenset[SeenLink] = frozenset()
    addresses: frozenset[str] = frozenset()
    listing: Listing = field(default_factory=Listing)
    filtered: str = ""
    settled: frozenset[str] = frozenset()
    ports: PortListing = field(default_factory=PortListing)
    files: frozenset[str] = frozenset()
    hosts: str = ""
    daemons: tuple[tuple[str, ...], ...] = ()
    ways: frozenset[str] = frozenset()
    limits: frozenset[str] = frozenset()


EMPTY = World()
NOTES = (".new", ".settled")
"""What is not remembered of a port: what a dead process was writing, and how far its connections were judged."""


def read_world(state_dir: Path) -> World:
    """What is on the host of this thread whose state is in that directory."""
    with open_netlink() as netlink:
        links = {link.index: link for link in netlink.list_links() if link.name != "lo"}
        addresses = [held for held in netlink.list_addresses() if held.index in links]
    networks = state_dir / "net" / "networks"
    # What a dead process was writing (*.new) is nobody's state, and goes with its directory.
    files = [path for path in networks.rglob("*") if path.suffix != ".new"] if networks.exists() else []
    remembered = state_dir / "net" / "filters"
    return World(
        links=frozenset(
            SeenLink(
                name=link.name,
                kind=link.kind,
                alias=link.alias,
                mtu=link.mtu,
                master=links[link.master].name if link.master in links else None,
                up=link.up,
            )
            for link in links.values()
        ),
        addresses=frozenset(f"{links[held.index].name} {held.interface}" for held in addresses),
        listing=_plain(read_listing()),
        ports=read_port_listing(),
        filtered="".join(sorted(path.read_text() for path in remembered.glob("*") if path.suffix not in NOTES)),
        settled=frozenset(f"{path.name} {path.read_text()}" for path in remembered.glob("*.settled")),
        files=frozenset(str(path.relative_to(networks)) for path in files),
        hosts="".join(sorted(path.read_text() for path in files if path.name == "hosts")),
        daemons=tuple(sorted(_without_index(argv) for argv in daemons_of(state_dir).values())),
        ways=frozenset(_ways(links)),
        limits=frozenset(_read_limits()),
    )


def _ways(links: Mapping[int, Link]) -> Iterator[str]:
    with open_neighbours() as neighbours, IPRoute() as ipr:
        for link in links.values():
            entries = neighbours.list_behind(link.index) if link.kind == VXLAN else ()
            for entry in (*entries, *neighbours.list_addresses(link.index)):
                yield f"{entry.table} {link.name} {entry.mac} {entry.destination}"
        for route in ipr.get_routes(proto=ROUTE_PROTOCOL):
            yield f"route {route.get_attr('RTA_DST')} {links[route.get_attr('RTA_OIF')].name}"


def _read_limits() -> Iterator[str]:
    queues = json.loads(run_or_fail(["tc", "-j", "qdisc", "show"], limit_s=LIMIT_S))
    yield from (f"{queue['dev']} {queue['options']['rate']}" for queue in queues if queue["kind"] == "tbf")
    tables = run_or_fail(["nft", "list", "tables"], limit_s=LIMIT_S).splitlines()
    for table in tables:
        if table.startswith(f"table netdev {table_name_for('')}"):
            yield run_or_fail(["nft", "list", *table.split()], limit_s=LIMIT_S)


def daemons_of(state_dir: Path) -> dict[int, tuple[str, ...]]:
    """Every dnsmasq whose files are below the directory."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_text().split("\0")[:-1]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if argv[:1] == [PROGRAM] and any(str(state_dir) in word for word in argv):
                found[int(entry.name)] = tuple(argv)
    return found


@contextmanager
def guest_on(bridge: str, name: str, address: str, gateway: str, mac: str | None = None) -> Iterator[str]:
    """A namespace with an IP stack, on the bridge by a veth pair, as a stranger's container would be. Yields its name."""
    with open_namespace(name), veth(f"v-{name[-9:]}", name, bridge=bridge):
        with IPRoute(netns=name) as inner:
            index = inner.link_lookup(ifname="eth0")[0]
            if mac is not None:
                inner.link("set", index=index, address=mac)
            inner.link("set", index=index, state="up")
            if address:
                inner.addr("add", index=index, address=address, prefixlen=24)
                inner.route("add", dst="default", gateway=gateway)
        yield name


@contextmanager
def veth(name: str, peer_namespace: str, *, bridge: str | None = None) -> Iterator[int]:
    """A pair: `name` here (on the bridge), `eth0` there. Yields the index of the one here."""
    with IPRoute() as host:
        host.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": peer_namespace})
        index = host.link_lookup(ifname=name)[0]
        if bridge is not None:
            host.link("set", index=index, master=host.link_lookup(ifname=bridge)[0])
        host.link("set", index=index, state="up")
        try:
            yield index
        finally:
            host.link("del", index=index)


def run_in(namespace: str, function: Callable[[], T]) -> T:
    """What the function returns in that namespace, in a thread of its own: a socket made there stays there."""

    def entered() -> T:
        netns.setns(namespace)
        return function()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(entered).result()


def _plain(listing: Listing) -> Listing:
    """Comparable: a Counter with zeros and a dict are not equal."""
    return replace(listing, rules=dict(listing.rules))


def _without_index(argv: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(re.sub(r"set:bridge\d+", "set:bridge", word) for word in argv)
