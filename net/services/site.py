"""Where a network's services stand on this host, by its kind: on our bridge, on a link of their own, or on each TAP. Pure.

Where our bridge holds the gateway's address, guests are served there. Where a router elsewhere has that address (`flat`, `vlan`,
`existing`), the bridge bears no address of ours, and may not even be ours: there the services have a link of their own, one end
of a pair whose other end is a port of that bridge (net/links/service_link.py), with addresses that mean nothing beyond this host.
Where each TAP is a link that holds the gateway's address (`routed`), guests are served on all of these, by that address.
On the others (`ovs`, `macvtap`) there is no link of the kernel's to stand on: guests are told all by their seed.
"""

from dataclasses import dataclass

from taskvisor.model.network import SEED_ONLY_KINDS, NetworkKind
from taskvisor.model.plan import VifPlan

METADATA_ADDRESS = "169.254.169.254"
"""Where cloud-init looks for a metadata service, on every cloud that has one."""
TAPS_PORT = 16925
"""Where the metadata server of a network without one link listens, at its gateway's address: not at 80, which a web server of
the host's own may have on all addresses."""
LINK_SERVER_ADDRESS = "169.254.169.253"
"""The DHCP server's own address on a service link. Link-local (RFC 3927), so never routed; guests are told a route to it."""
ON_BRIDGE_KINDS = frozenset({NetworkKind.NAT, NetworkKind.VXLAN})
ON_LINK_KINDS = frozenset({NetworkKind.FLAT, NetworkKind.VLAN, NetworkKind.EXISTING})
ON_TAPS_KINDS = frozenset({NetworkKind.ROUTED})
SERVED_KINDS = frozenset(NetworkKind) - SEED_ONLY_KINDS
SERVICE_PREFIX = "svc"
SERVICE_PORT_PREFIX = "svp"
ID_CHARS = 11  # as in the names of bridges (net/plan.py)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The link that a network's servers listen on, and the address that DHCP is served from.

    `interface` None: every link that holds that address.
    """

    interface: str | None
    server: str
    on_link: bool


def site_for(vif: VifPlan) -> Site:
    """Where the services of the NIC's network stand. The kind is one of SERVED_KINDS."""
    if vif.kind in ON_LINK_KINDS:
        return Site(interface=service_name_for(vif), server=LINK_SERVER_ADDRESS, on_link=True)
    if vif.kind in ON_TAPS_KINDS:
        return Site(interface=None, server=vif.gateway, on_link=False)
    return Site(interface=vif.bridge, server=vif.gateway, on_link=False)


def service_name_for(vif: VifPlan) -> str:
    """The name of the host's end of the network's service link."""
    return SERVICE_PREFIX + vif.network_id[:ID_CHARS]


def service_port_for(vif: VifPlan) -> str:
    """The name of its other end, the port of the network's bridge."""
    return SERVICE_PORT_PREFIX + vif.network_id[:ID_CHARS]
