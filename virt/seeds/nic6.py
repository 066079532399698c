"""What a guest's seed has to say of IPv6 on a NIC. Pure.

With SLAAC nothing: guests take advertisements unless they are told not to.
"""

from ipaddress import ip_network

from taskvisor.model.network import Ipv6Mode, NetworkKind
from taskvisor.model.plan import VifPlan

LOCAL_KINDS = frozenset({NetworkKind.NAT, NetworkKind.VXLAN})
"""Their IPv6 gateway is our bridge, which routes no IPv6 anywhere (net/services/ipv6.py)."""


def asks_by_dhcp6(vif: VifPlan) -> bool:
    """Whether the guest has to ask for its IPv6 address."""
    return vif.address6 is not None and not is_told6_by_seed(vif) and vif.ipv6_mode is Ipv6Mode.DHCPV6


def is_told6_by_seed(vif: VifPlan) -> bool:
    """Whether the seed has to tell the guest its IPv6 address: nobody advertises or hands it out."""
    return vif.address6 is not None and (not vif.dhcp or vif.kind is NetworkKind.ROUTED)


def leads_out6(vif: VifPlan) -> bool:
    """Whether the NIC's IPv6 gateway is a way to anywhere else."""
    return vif.address6 is not None and vif.gateway6 is not None and vif.kind not in LOCAL_KINDS


def prefix_length6_of(vif: VifPlan) -> int:
    """Of the network that the NIC's IPv6 address is in; 128 when the address stands alone."""
    return 128 if vif.cidr6 is None else ip_network(vif.cidr6).prefixlen
