"""What keeps this host from plugging guests, before the first one comes. Looks and tries; leaves nothing behind."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from net.command import run_command
from net.filters.chains import Listing
from net.filters.chains import script_for as port_script_for
from net.filters.floating import TRANSLATION
from net.filters.generation import read_generation
from net.filters.placement import port_wanted_for
from net.filters.port_rules import PortRules, Segment
from net.filters.ruleset import NetworkRules, script_for
from net.filters.service_guard import SERVED
from net.filters.service_guard import script_for as guard_script_for
from net.filters.states import BRIDGE_FILTERING_MISSING, is_bridge_filtering_there
from net.filters.tap_services import SERVED_BY_TAPS
from net.links.netlink import open_netlink
from net.links.sysctl import FORWARDING, ROOT
from net.links.tun import NameTaken, open_new_tap
from net.services.dhcp import require_reachable
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.network import NO_LINKS, HostLinks

TRIAL_TAP = "taskvisor-%d"  # the kernel puts a free number in
TRIAL_PORT = PortRules(
    tap="taskvisor-try",
    mac="02:00:00:00:00:01",
    addresses=("192.0.2.1", "2001:db8::1"),
    segment=Segment(bridge="taskvisor-try", mac="02:00:00:00:00:02", zone=1),
)
TRIAL_RULES = NetworkRules(bridge="taskvisor-try", cidr="192.0.2.0/24", nat=True)  # RFC 5737: in no real network
TRIAL_GUARD = {SERVED: "taskvisor-try"}


def list_problems(state_dir: Path | None = None, links: HostLinks = NO_LINKS) -> tuple[str, ...]:
    """A sentence for each thing that is wrong and what to do about it; empty when this host can plug guests.

    With `state_dir` also whether dnsmasq's unprivileged user can reach it; with `links` whether this host has them.
    """
    checks = [_tap, _netlink, _nft, _bridged, _dnsmasq, _forwarding]
    if state_dir is not None:
        checks.append(lambda: _reachable(state_dir / "net"))
    checks.append(lambda: _links(links))
    return tuple(problem for check in checks for problem in _problems_of(check))


def _problems_of(check: Callable[[], Iterator[str]]) -> Iterator[str]:
    try:
        yield from check()
    except TaskvisorError as error:
        yield str(error)


def _tap() -> Iterator[str]:
    """A TAP can be made: device, module and right at once. It goes when it is closed."""
    try:
        with open_new_tap(TRIAL_TAP):
            pass
    except NameTaken:
        yield f"a link called {TRIAL_TAP} is on this host; remove it"


def _netlink() -> Iterator[str]:
    with open_netlink() as netlink:
        netlink.list_addresses()
    yield from ()


def _links(links: HostLinks) -> Iterator[str]:
    """What the operator says that this host is connected to is there."""
    with open_netlink() as netlink:
        for network, name in sorted(links.uplinks.items()):
            if netlink.read_link(name) is None:
                yield (
                    f"there is no interface {name}, which TASKVISOR_PHYSICAL_NETWORKS names for {network}; correct it, or"
                    " bring the interface back"
                )
        address = links.tunnel_address
        if address is not None and not netlink.list_holders(address):
            yield (
                f"no interface has {address}, which TASKVISOR_TUNNEL_ADDRESS says; correct it, or give it the address"
            )


def _nft() -> Iterator[str]:
    """The kernel takes the rules of a network, of a port and of bridges' ports (nft -c: checked by the kernel, not committed)."""
    read_generation()
    wanted = port_wanted_for(TRIAL_PORT, Listing()) + TRANSLATION + SERVED_BY_TAPS
    port_script = port_script_for(wanted, Listing())
    script = script_for(TRIAL_RULES) + port_script + guard_script_for(TRIAL_GUARD)
    checked = run_command(["nft", "-c", "-f", "-"], stdin=script)
    if not checked.ok:
        yield f"nftables does not take the rules of a network and a port: {checked}; install nftables >= 1.0 and a kernel >= 5.10"


def _bridged() -> Iterator[str]:
    """What passes on bridges can be filtered."""
    yield from () if is_bridge_filtering_there() else (BRIDGE_FILTERING_MISSING,)


def _dnsmasq() -> Iterator[str]:
    asked = run_command(["dnsmasq", "--version"])
    if not asked.ok:
        yield f"dnsmasq does not run: {asked}; install the package dnsmasq-base"
    elif not {b"DHCP", b"DHCPv6"} <= set(asked.stdout.split()):
        yield "dnsmasq was built without DHCP or without DHCPv6; install the distribution's package dnsmasq-base"


def _reachable(directory: Path) -> Iterator[str]:
    require_reachable(directory)
    yield from ()


def _forwarding() -> Iterator[str]:
    path: Path = ROOT / FORWARDING
    if path.read_text().strip() != "1" and not os.access(path, os.W_OK):
        yield f"{path} is 0 and can't be written; run `sysctl -w net.ipv4.ip_forward=1` on the host"
