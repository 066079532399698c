"""DHCP and names for a network's guests: one dnsmasq per network and host, which knows the MACs of this host's ports.

The ports are lines of one file, replaced by rename. dnsmasq rereads it at SIGHUP, as the unprivileged user that it has
become, so the path must be searchable for everybody. (A file for each port would do without reading the others, but
dnsmasq logs each file it reads, at each SIGHUP.)

Callers hold the network's lock, so reading and replacing can't interleave. Nothing here trusts that a step was reached:
a pid file may lie, a lease may linger.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import structlog

from net.command import run_command
from net.services.dnsmasq import (
    HostEntry,
    Lease,
    Lease6,
    Paths,
    argv_for,
    host_entry_for,
    hosts_for,
    names_for,
    parse_hosts,
    parse_leases,
    parse_leases6,
)
from net.services.process import ensure_none_with, open_daemon
from net.services.release import send_release
from net.services.release6 import send_release6
from net.services.site import site_for
from taskvisor.model.errors import Contradiction, DoesNotFit, Retryable
from taskvisor.model.plan import VifPlan

log = structlog.get_logger(__name__)

SEARCHABLE = 0o001
DIRECTORY_MODE = 0o755
FILE_MODE = 0o644


def ensure_served(vif: VifPlan, *, bridge_index: int | None, paths: Paths) -> None:
    """The network's dnsmasq runs, as wanted, and knows the port; its address is not leased to another MAC.

    A running dnsmasq is adopted when its command line is the wanted one, else replaced; leases survive that.
    DoesNotFit when dnsmasq is not installed or its user can't reach the files; Retryable when it does not start;
    Contradiction when another port on this host has the address.
    """
    _ensure_directories(paths)
    foreign = _read_foreign_leases(paths, vif)
    _ensure_entry(paths, vif)
    argv = argv_for(vif, bridge_index=bridge_index, paths=paths)
    with open_daemon(paths.pid, paths.pid_argument) as daemon:
        if daemon is not None and daemon.argv == argv and not foreign:
            # Always, not only after a change: who changed the entry may have died before it told.
            daemon.send(signal.SIGHUP)
            return
    ensure_stopped(paths)
    if foreign:
        _drop_leases(paths, foreign)
    _start(argv)
    log.info("dhcp_started", bridge=vif.bridge, network_id=vif.network_id)


def ensure_forgotten(vif: VifPlan, *, interface: str | None, paths: Paths) -> None:
    """The network's dnsmasq, if it runs, no longer knows the port, and is told by the link `interface` that the port's lease has
    ended; with None it is not: the lease goes when another port gets the address (`ensure_served`).
    """
    leased = any(lease.mac == vif.mac.lower() for lease in _read_leases(paths))
    leases6 = _read_leases6_of(paths, vif)
    _ensure_no_entry(paths, vif)
    with open_daemon(paths.pid, paths.pid_argument) as daemon:
        if daemon is not None:
            if interface is not None and leased:
                send_release(bridge=interface, server=site_for(vif).server, address=vif.address, mac=vif.mac)
            for lease in leases6:
                if interface is not None:
                    send_release6(interface, lease)
            daemon.send(signal.SIGHUP)


def is_served(vif: VifPlan, *, paths: Paths) -> bool:
    """The network's dnsmasq runs and was told of the port. Touches nothing."""
    if host_entry_for(vif) not in _read_hosts(paths):
        return False
    with open_daemon(paths.pid, paths.pid_argument) as daemon:
        return daemon is not None


def ensure_stopped(paths: Paths) -> None:
    """No dnsmasq of the network runs, not even one that its starter did not live to see write its pid file."""
    for pid in ensure_none_with(paths.pid_argument):
        log.info("dhcp_stopped", pid=pid)
    paths.pid.unlink(missing_ok=True)


def ensure_absent(paths: Paths) -> None:
    """No dnsmasq of the network runs, and its files are gone."""
    if not paths.directory.exists():
        return
    ensure_stopped(paths)
    for file in paths.directory.iterdir():
        file.unlink(missing_ok=True)
    paths.directory.rmdir()


def read_entries(paths: Paths) -> tuple[HostEntry, ...]:
    """What the network's dnsmasq is told, in the order of its file; nothing when there is no such file."""
    return _read_hosts(paths)


def require_reachable(path: Path) -> None:
    """Every user may reach what lies at `path`. DoesNotFit naming the directory above it that is closed."""
    for directory in path.parents:
        if directory.exists() and not directory.stat().st_mode & SEARCHABLE:
            raise DoesNotFit(
                f"dnsmasq can't reach its files in {path.parent}: it runs as an unprivileged user, and {directory} is "
                f"closed to others; run `chmod o+x {directory}`, or set another state directory"
            )


def _ensure_directories(paths: Paths) -> None:
    for directory in (paths.directory.parent, paths.directory):
        directory.mkdir(exist_ok=True)
        directory.chmod(DIRECTORY_MODE)  # mkdir's mode is cut by the worker's umask
    require_reachable(paths.hosts)


def _ensure_entry(paths: Paths, vif: VifPlan) -> None:
    entries, wanted = _read_hosts(paths), host_entry_for(vif)
    if wanted in entries:
        _ensure_names(paths, entries)
        return
    others = [entry for entry in entries if entry.port_id != vif.port_id]
    for other in others:
        if other.address == vif.address:
            raise Contradiction(
                f"{vif.address} can't be given to port {vif.port_id}: port {other.port_id} on this host has it; "
                "unplug that one (delete its instance), then retry"
            )
    _replace(paths.hosts, hosts_for([*others, wanted]))
    _ensure_names(paths, (*others, wanted))


def _ensure_no_entry(paths: Paths, vif: VifPlan) -> None:
    entries = _read_hosts(paths)
    kept = [entry for entry in entries if entry.port_id != vif.port_id]
    if len(kept) < len(entries):
        _replace(paths.hosts, hosts_for(kept))
    if paths.names.exists():
        _ensure_names(paths, kept)


def _ensure_names(paths: Paths, entries: Iterable[HostEntry]) -> None:
    """Always looked at: who changed the entries may have died before it came to the names."""
    wanted = names_for(entries)
    if not paths.names.exists() or paths.names.read_text() != wanted:
        _replace(paths.names, wanted)


def _read_hosts(paths: Paths) -> tuple[HostEntry, ...]:
    try:
        return parse_hosts(paths.hosts.read_text())
    except FileNotFoundError:
        return ()


def _replace(path: Path, text: str) -> None:
    """The file has that content, at no time another but its former one."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.chmod(FILE_MODE)
    os.replace(scratch, path)


def _read_leases(paths: Paths) -> tuple[Lease, ...]:
    try:
        return parse_leases(paths.leases.read_text())
    except FileNotFoundError:
        return ()


def _read_foreign_leases(paths: Paths, vif: VifPlan) -> frozenset[str]:
    """The lease lines that keep the port's addresses from it: of a guest that is gone without its lease.

    An IPv6 lease does not say whose MAC it is; a port that was not known until now has none.
    """
    leases = _read_leases(paths)
    known = any(entry.port_id == vif.port_id for entry in _read_hosts(paths))
    leases6 = () if known else _read_leases6_of(paths, vif)
    return frozenset(
        [lease.line for lease in leases if lease.address == vif.address and lease.mac != vif.mac.lower()]
        + [lease.line for lease in leases6]
    )


def _read_leases6_of(paths: Paths, vif: VifPlan) -> tuple[Lease6, ...]:
    try:
        leases = parse_leases6(paths.leases.read_text())
    except FileNotFoundError:
        return ()
    return tuple(lease for lease in leases if lease.address == vif.address6)


def _drop_leases(paths: Paths, lines: frozenset[str]) -> None:
    """While no dnsmasq runs: it reads the file once, at its start."""
    kept = [line for line in paths.leases.read_text().splitlines(keepends=True) if line.rstrip("\n") not in lines]
    _replace(paths.leases, "".join(kept))


def _start(argv: tuple[str, ...]) -> None:
    """dnsmasq puts itself into the background once its sockets are bound, and ends with a sentence if they can't be."""
    ended = run_command(argv)
    if not ended.ok:
        raise Retryable(f"dnsmasq does not start: {ended}")
