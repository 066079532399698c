"""What dnsmasq is told: its command line, its host entries, its lease file. Pure; runs and writes nothing.

The command line is the whole configuration: no file besides. What runs (/proc/<pid>/cmdline) can therefore be compared
with what is wanted, and a difference in anything means another daemon. Source: dnsmasq(8) of 2.90.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from net.services.dhcp_options import dns_arguments_for, option_arguments_for
from net.services.ipv6 import ipv6_arguments_for
from net.services.site import Site, site_for
from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.plan import VifPlan

PROGRAM = "dnsmasq"
LEASE_TIME_S = 86400
LEASES_LIMIT = 65536
HOST_LINE = re.compile(
    r"(?P<mac>[^,]+),(?P<address>[^,]+),(?:\[(?P<address6>[^\],]+)\],)?(?P<hostname>[^, ]+) # (?P<port>\S+)"
)


@dataclass(frozen=True, kw_only=True)
class HostEntry:
    """A known MAC: the addresses and the name it gets."""

    port_id: PortId
    mac: str
    address: str
    hostname: str
    address6: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A line of the lease file: `expiry mac address hostname client-id`."""

    mac: str
    address: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Lease6:
    """A line of the lease file below `duid <server's>`: `expiry iaid address hostname duid`."""

    iaid: int
    address: str
    duid: str
    server_duid: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Paths:
    """A network's files on this host."""

    directory: Path

    @property
    def hosts(self) -> Path:
        """The host entries, one line for each port."""
        return self.directory / "hosts"

    @property
    def names(self) -> Path:
        """What DNS answers for the ports, whether or not they have a lease: lines of hosts(5)."""
        return self.directory / "names"

    @property
    def leases(self) -> Path:
        return self.directory / "leases"

    @property
    def pid(self) -> Path:
        return self.directory / "dnsmasq.pid"

    @property
    def pid_argument(self) -> str:
        """The argument by which a dnsmasq is known to be this network's, with or without its pid file."""
        return f"--pid-file={self.pid}"


def paths_for(directory: Path, network_id: NetworkId) -> Paths:
    """Where the files of a network lie below `directory`."""
    return Paths(directory=directory / network_id)


def argv_for(vif: VifPlan, *, bridge_index: int | None, paths: Paths) -> tuple[str, ...]:
    """The command line of the network's dnsmasq.

    `bridge_index` (of the link that it stands on) is in it, as a tag that nothing uses, because dnsmasq's socket is bound to
    that very link: when it has been made anew, the daemon has to be, too. None for one that stands on no single link.
    """
    site, cidr = site_for(vif), IPv4Network(vif.cidr)
    return (
        PROGRAM,
        "--conf-file=/dev/null",
        paths.pid_argument,
        *_listening_arguments(site),
        "--except-interface=lo",
        *_range_arguments(site, cidr, bridge_index),
        f"--dhcp-hostsfile={paths.hosts}",
        f"--dhcp-leasefile={paths.leases}",
        f"--dhcp-lease-max={min(cidr.num_addresses, LEASES_LIMIT)}",
        "--dhcp-authoritative",
        "--dhcp-ignore-clid",  # a lease is a MAC's: some guests change their client id when they are rebuilt
        "--dhcp-ignore-names",  # a guest can't take another's name
        "--no-ping",  # addresses are given out by the store; don't hold the first answer back for an echo
        "--no-hosts",
        f"--addn-hosts={paths.names}",
        *option_arguments_for(vif, site),
        *dns_arguments_for(vif, site),
        *ipv6_arguments_for(vif, site),
    )


def _listening_arguments(site: Site) -> tuple[str, ...]:
    """Nothing on 0.0.0.0 but DHCP: each network has its own dnsmasq, and the host may have one more.

    Where the links are TAPs that come and go, dnsmasq is told the address that they hold instead of their names. It hears those
    that there are now, and any that comes, without a restart; what comes by a link without that address it leaves to others. One
    thing is lost with several such networks on a host: their sockets for DHCP are bound to no link, so a renewal, which is sent
    to the server alone, may come to another network's dnsmasq, which passes it over. The client then asks everybody, at 7/8 of
    its lease (RFC 2131 §4.4.5), and is answered.
    """
    if site.interface is None:
        return ("--bind-dynamic", f"--listen-address={site.server}")
    return (f"--interface={site.interface}", "--bind-interfaces")


def _range_arguments(site: Site, cidr: IPv4Network, link_index: int | None) -> tuple[str, ...]:
    """Known MACs only. On a service link the subnet is not that of the link's own address, and has to be named as shared."""
    first, mask = cidr.network_address, cidr.netmask
    tag = "" if link_index is None else f"set:bridge{link_index},"
    if not site.on_link:
        return (f"--dhcp-range={tag}{first},static,{mask},{LEASE_TIME_S}",)
    return (
        f"--dhcp-range={tag}{first},static,{mask},{cidr.broadcast_address},{LEASE_TIME_S}",
        f"--shared-network={site.server},{first}",
    )


def parse_hosts(text: str) -> tuple[HostEntry, ...]:
    """The entries of a hosts file; lines of any other form are passed over."""
    matches = (HOST_LINE.fullmatch(line) for line in text.splitlines())
    return tuple(
        HostEntry(
            port_id=PortId(match["port"]),
            mac=match["mac"],
            address=match["address"],
            hostname=match["hostname"],
            address6=match["address6"],
        )
        for match in matches
        if match is not None
    )


def hosts_for(entries: Iterable[HostEntry]) -> str:
    """The hosts file: lines of `--dhcp-host`, each with its port as a comment.

    Not as a tag (`set:<tag>`): with one, dnsmasq 2.86 to 2.90 frees what it must not when it rereads the file while
    the host has a lease, and dies of it.
    """
    return "".join(
        f"{entry.mac},{','.join(_addresses_for_dhcp(entry))},{entry.hostname} # {entry.port_id}\n" for entry in entries
    )


def names_for(entries: Iterable[HostEntry]) -> str:
    """The names file: the addresses of each port, one a line, and its name."""
    return "".join(
        f"{address} {entry.hostname}\n"
        for entry in entries
        for address in (entry.address, entry.address6)
        if address is not None
    )


def _addresses_for_dhcp(entry: HostEntry) -> tuple[str, ...]:
    return (entry.address,) if entry.address6 is None else (entry.address, f"[{entry.address6}]")


def host_entry_for(vif: VifPlan) -> HostEntry:
    """What dnsmasq has to know of a port."""
    return HostEntry(
        port_id=vif.port_id, mac=vif.mac, address=vif.address, hostname=vif.hostname, address6=vif.address6
    )


def parse_leases(text: str) -> tuple[Lease, ...]:
    """The IPv4 leases of a lease file; lines of any other form are passed over."""
    fields = ((line, line.split()) for line in text.splitlines())
    return tuple(
        Lease(mac=parts[1].lower(), address=parts[2], line=line)
        for line, parts in fields
        if len(parts) == 5 and ":" in parts[1]
    )


def parse_leases6(text: str) -> tuple[Lease6, ...]:
    """The IPv6 leases of a lease file, those of temporary addresses excepted; lines of any other form are passed over."""
    lines = text.splitlines()
    server = next((line.split()[1] for line in lines if line.startswith("duid ") and len(line.split()) == 2), None)
    fields = ((line, line.split()) for line in lines)
    return tuple(
        Lease6(iaid=int(parts[1]), address=parts[2], duid=parts[4], server_duid=server, line=line)
        for line, parts in fields
        if server is not None and len(parts) == 5 and parts[1].isdecimal()
    )
