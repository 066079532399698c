"""The arithmetic of a network's addresses: which there are, which are not for guests, and which a guest makes for itself.

Pure: nothing is asked, nothing is touched.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from taskvisor.model.network import Ipv6Mode, Network

Subnet = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

SLAAC_PREFIX_BITS = 64
"""Of a network whose guests make their addresses: an interface identifier has 64 bits (RFC 4862 §5.5.3, RFC 4291 §2.5.1)."""


def subnets_of(network: Network) -> tuple[Subnet, ...]:
    """Its IPv4 subnet, then its IPv6 subnet if it has one."""
    if network.cidr6 is None:
        return (IPv4Network(network.cidr),)
    return (IPv4Network(network.cidr), IPv6Network(network.cidr6))


def overlap_of(one: Network, other: Network) -> tuple[Subnet, Subnet] | None:
    """A subnet of each that have addresses in common; None when there are none."""
    for mine in subnets_of(one):
        for theirs in subnets_of(other):
            if mine.version == theirs.version and mine.overlaps(theirs):
                return mine, theirs
    return None


def taken_addresses(network: Network) -> frozenset[str]:
    """Addresses in its subnets that somebody has who is no guest: gateways, and servers that guests are told of."""
    vias = [route.via for route in network.routes]
    named = [network.gateway, network.gateway6, *network.dns, *network.ntp, *vias]
    return frozenset(address for address in named if address is not None and _is_in(network, ip_address(address)))


def slaac_address_for(cidr6: str, mac: str) -> str:
    """The address that a guest of that MAC makes in the subnet, with the modified EUI-64 (RFC 4291 appendix A).

    A guest that makes itself another one (RFC 7217, RFC 8981) is not heard with it where anti-spoofing is on.
    """
    octets = bytearray(bytes.fromhex(mac.replace(":", "")))
    octets[0] ^= 0x02  # the universal/local bit is turned over
    identifier = int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:], "big")
    return str(IPv6Network(cidr6).network_address + identifier)


def makes_own_address6(network: Network) -> bool:
    """Guests of it have an IPv6 address that follows from their MAC."""
    return network.cidr6 is not None and network.ipv6_mode is Ipv6Mode.SLAAC


def _is_in(network: Network, address: Address) -> bool:
    return any(address.version == subnet.version and address in subnet for subnet in subnets_of(network))
