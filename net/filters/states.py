"""How a frame on a bridge comes to bear the state of its connection, and why so. Rules as text: pure.

The bridge family can't ask for a connection's state where the kernel has no nf_conntrack_bridge (and no `ibrname`), and the
inet hooks, which can, see the bridge as the link of a bridged packet and never the TAP. So both are used, for which each
network namespace has its switches (net.bridge.bridge-nf-call-iptables, -ip6tables): br_netfilter sends bridged IP packets
through the inet hooks *within* the bridge's own (priority 0 of prerouting), and what they write into the packet's mark is read
by the bridge's later chains, which know the TAP:

    bridge prerouting -200   iifname -> from_<tap>    may it speak as that? (anti_spoofing; before anything remembers it)
    inet   prerouting -300   the network's zone of connections
    inet   prerouting -150   the state into the mark
    inet   output     -150   what the host itself sends is marked as an answer is
    bridge prerouting  100   iifname -> out_<tap>     what the guest may begin
    bridge postrouting   0   oifname -> in_<tap>      what may reach it, by bridge or from the host itself

A connection that was let through and would be no more bears a bit of REVOKED in its own mark (net/filters/revocation.py): its
packets get no state either.

A mark without a state (invalid, revoked, or br_netfilter switched off behind our back) is let through by no chain: it fails
closed.
What a host sends to its own guests is let through: whoever waits for a guest to be ready does so from there, and a host has its
guests' memory anyway. What it forwards is not its own.
A TAP without a bridge (`routed`) has the same chains on the same places of the inet family, where it is the link itself.

Zones: what goes from port to port of a bridge is remembered in the network's own zone, so that two networks with the same
addresses can't be taken for each other. What goes to the bridge's own MAC leaves the network, and its answers come from where
there is no zone: only its original direction has the zone. A network's number is drawn from its id, so that connections
survive `nft flush ruleset`; two networks of one host have the same one in 65535 cases, which matters only if their addresses
overlap too. Rejected: physdev (only for iptables), netdev chains (no state), a mark on the connection (not readable either).

A drop that another table's forward chain has (Docker's) hits bridged packets too, once br_netfilter sends them there.
"""

import hashlib

from net.filters.chains import Chain, Entries, Wanted
from net.links.sysctl import ROOT, ensure_sysctl
from taskvisor.model.errors import DoesNotFit
from taskvisor.model.ids import NetworkId

BRIDGE_TABLE = "bridge taskvisor"
INET_TABLE = "inet taskvisor_ports"
ANSWER = 0x1000
NEW = 0x2000
BRIDGED = 0x800
MASK = ANSWER | NEW | BRIDGED
"""Three bits of the packet's mark, free of those of Kubernetes (0xc000), Tailscale (0xff0000); Cilium (0xf00) has one of them."""
REVOKED = 0x0C00_0000
"""Two bits of the connection's mark, which other programs' rules may not touch."""
IS_ANSWER = f"meta mark & {ANSWER:#x} == {ANSWER:#x}"
IS_NEW = f"meta mark & {NEW:#x} == {NEW:#x}"
IS_NOT_BRIDGED = f"meta mark & {BRIDGED:#x} == 0"
ZONES = Entries(table=INET_TABLE, name="zones", declared="map {} {{ typeof iifname : ct zone; }}")
GATEWAYS = Entries(table=INET_TABLE, name="gateways", declared="set {} {{ typeof iifname . ether daddr; }}")
SWITCHES = ("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")

_STAMP = (
    f"ct state established,related ct mark & {REVOKED:#x} == 0 meta mark set meta mark | {ANSWER:#x}",
    f"ct state new,untracked meta mark set meta mark | {NEW:#x}",  # neighbour discovery is never tracked
)
STATES = Wanted(
    chains=(
        Chain(
            table=INET_TABLE,
            name="zone",
            hook="type filter hook prerouting priority raw; policy accept",
            rules=(
                f"meta mark set meta mark & {0xFFFFFFFF ^ MASK:#x}",
                "iifname . ether daddr @gateways ct original zone set iifname map @zones accept",
                f"ct zone set iifname map @zones meta mark set meta mark | {BRIDGED:#x}",
            ),
        ),
        Chain(
            table=INET_TABLE,
            name="stamp",
            hook="type filter hook prerouting priority mangle; policy accept",
            rules=_STAMP,  # the chain above has cleared it
        ),
        Chain(
            table=INET_TABLE,
            name="stamp_output",
            hook="type filter hook output priority mangle; policy accept",
            rules=(f"meta mark set meta mark & {0xFFFFFFFF ^ MASK:#x}", f"meta mark set meta mark | {ANSWER:#x}"),
        ),
    ),
    entries=(ZONES, GATEWAYS),
)
"""What all filtered ports of a host need."""

BRIDGE_FILTERING_MISSING = (
    "can't filter what passes on bridges: the kernel's br_netfilter is not loaded on this host; run `modprobe br_netfilter`, "
    "and name it in a file below /etc/modules-load.d"
)


def zone_for(network_id: NetworkId) -> int:
    """The network's zone of connections, from 1 to 65535; 0 is that of all else."""
    return 1 + int.from_bytes(hashlib.sha256(f"zone:{network_id}".encode()).digest()[:4]) % 65535


def is_bridge_filtering_there() -> bool:
    """Whether br_netfilter is loaded."""
    return (ROOT / "bridge").exists()


def ensure_bridged_packets_filtered() -> None:
    """What a bridge of this network namespace forwards passes the inet hooks.

    DoesNotFit where br_netfilter is not there, or can't be switched on. It is never switched off again: by then somebody
    else may rely on it.
    """
    if not is_bridge_filtering_there():
        raise DoesNotFit(BRIDGE_FILTERING_MISSING)
    for switch in SWITCHES:
        ensure_sysctl(switch, "1")
