"""What of a port's IPv6 can be made on a host, and who is its gateway: pure functions of port and network."""

from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from net.services.dhcp_options import ROUTES_LIMIT
from net.services.site import ON_BRIDGE_KINDS
from taskvisor.model.errors import Refused
from taskvisor.model.network import Ipv6Mode, Network, Port
from taskvisor.model.plan import VifPlan

SLAAC_PREFIX_LENGTH = 64  # RFC 4862 §5.5.3 with 64-bit interface ids (RFC 4291 §2.5.1)
LEAST_MTU = 1280  # RFC 8200 §5


def require_usable6(port: Port, network: Network) -> None:
    """Refused when the network's IPv6, the port's IPv6 address, or the number of its routes is unusable."""
    if len(network.routes) > ROUTES_LIMIT:
        raise Refused(f"network {network.name}: routes: {len(network.routes)}; DHCP can tell at most {ROUTES_LIMIT}")
    if network.cidr6 is None:
        return
    cidr = _network_of(network.cidr6, network.name)
    if network.ipv6_mode is Ipv6Mode.SLAAC and cidr.prefixlen != SLAAC_PREFIX_LENGTH:
        raise Refused(
            f"network {network.name}: cidr6: {cidr}; guests make addresses of their own only in a /64: or use dhcpv6"
        )
    if network.mtu < LEAST_MTU:
        raise Refused(f"network {network.name}: mtu: {network.mtu}; IPv6 needs at least {LEAST_MTU}")
    _require_in(network.gateway6, cidr, f"network {network.name}: gateway6")
    _require_in(port.address6, cidr, f"port {port.id}: address6")


def gateway6_for(vif: VifPlan) -> IPv6Interface | None:
    """The IPv6 address that our bridge holds; None where it holds none."""
    if vif.cidr6 is None or vif.gateway6 is None or vif.kind not in ON_BRIDGE_KINDS:
        return None
    return IPv6Interface(f"{vif.gateway6}/{IPv6Network(vif.cidr6).prefixlen}")


def _network_of(text: str, name: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as error:
        raise Refused(f"network {name}: cidr6: {error}; it must read like fd00:1:2:3::/64") from error


def _require_in(address: str | None, cidr: IPv6Network, field: str) -> None:
    if address is None:
        return
    try:
        inside = IPv6Address(address) in cidr
    except ValueError as error:
        raise Refused(f"{field}: {error}; it must be an IPv6 address of {cidr}") from error
    if not inside:
        raise Refused(f"{field}: {address} is not in {cidr}")
