"""What dnsmasq is told: its command line, its host entries, its lease file. Pure; runs and writes nothing.

The command line is the whole configuration: no file besides. What runs (/proc/<pid>/cmdline) can therefore be compared
with what is wanted, and a difference in anything means another daemon. Source: dnsmasq(8) of 2.90.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from taskvisor.model.ids import NetworkId, PortId
from taskvisor.model.plan import VifPlan

PROGRAM = "dnsmasq"
LEASE_TIME_S = 86400
LEASES_LIMIT = 65536
HOST_LINE = re.compile(r"(?P<mac>[^,]+),(?P<address>[^,]+),(?P<hostname>[^, ]+) # (?P<port>\S+)")


@dataclass(frozen=True, kw_only=True)
class HostEntry:
    """A known MAC: the address and the name it gets."""

    port_id: PortId
    mac: str
    address: str
    hostname: str


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A line of the lease file: `expiry mac address hostname client-id`."""

    mac: str
    address: str
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


def argv_for(vif: VifPlan, *, bridge_index: int, paths: Paths) -> tuple[str, ...]:
    """The command line of the network's dnsmasq.

    `bridge_index` is in it (as a tag that nothing uses) because dnsmasq's socket is bound to that very bridge: when the
    bridge has been made anew, the daemon has to be, too.

    DNS: a network that names servers has its guests ask those, and dnsmasq serves none. Otherwise dnsmasq does, on the
    gateway's address: guests by their names, all else by the host's own resolvers (by none on a network without NAT).
    """
    cidr = IPv4Network(vif.cidr)
    return (
        PROGRAM,
        "--conf-file=/dev/null",
        paths.pid_argument,
        f"--interface={vif.bridge}",
        "--except-interface=lo",
        "--bind-interfaces",  # nothing on 0.0.0.0: each network has its own dnsmasq, and the host may have one more
        f"--dhcp-range=set:bridge{bridge_index},{cidr.network_address},static,{cidr.netmask},{LEASE_TIME_S}",
        f"--dhcp-hostsfile={paths.hosts}",
        f"--dhcp-leasefile={paths.leases}",
        f"--dhcp-lease-max={min(cidr.num_addresses, LEASES_LIMIT)}",
        "--dhcp-authoritative",
        "--dhcp-ignore-clid",  # a lease is a MAC's: some guests change their client id when they are rebuilt
        "--dhcp-ignore-names",  # a guest can't take another's name
        "--no-ping",  # addresses are given out by the store; don't hold the first answer back for an echo
        "--no-hosts",
        f"--dhcp-option=option:router{',' + vif.gateway if vif.nat else ''}",
        f"--dhcp-option-force=option:mtu,{vif.mtu}",  # some clients use it without asking for it
        *_dns_arguments(vif),
    )


def _dns_arguments(vif: VifPlan) -> tuple[str, ...]:
    if vif.dns:
        return ("--port=0", f"--dhcp-option=option:dns-server,{','.join(vif.dns)}")
    forwarding = () if vif.nat else ("--no-resolv",)
    return ("--domain-needed", "--bogus-priv", *forwarding)


def parse_hosts(text: str) -> tuple[HostEntry, ...]:
    """The entries of a hosts file; lines of any other form are passed over."""
    matches = (HOST_LINE.fullmatch(line) for line in text.splitlines())
    return tuple(
        HostEntry(port_id=PortId(match["port"]), mac=match["mac"], address=match["address"], hostname=match["hostname"])
        for match in matches
        if match is not None
    )


def hosts_for(entries: Iterable[HostEntry]) -> str:
    """The hosts file: lines of `--dhcp-host`, each with its port as a comment.

    Not as a tag (`set:<tag>`): with one, dnsmasq 2.86 to 2.90 frees what it must not when it rereads the file while
    the host has a lease, and dies of it.
    """
    return "".join(f"{entry.mac},{entry.address},{entry.hostname} # {entry.port_id}\n" for entry in entries)


def host_entry_for(vif: VifPlan) -> HostEntry:
    """What dnsmasq has to know of a port."""
    return HostEntry(port_id=vif.port_id, mac=vif.mac, address=vif.address, hostname=vif.hostname)


def parse_leases(text: str) -> tuple[Lease, ...]:
    """The IPv4 leases of a lease file; lines of any other form are passed over."""
    fields = ((line, line.split()) for line in text.splitlines())
    return tuple(Lease(mac=parts[1].lower(), address=parts[2], line=line) for line, parts in fields if len(parts) == 5)
