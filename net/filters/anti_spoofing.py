"""Whom a port may speak as, as rules of one chain: pure. Knows nothing of connections or groups.

What passes, by sender: ARP with the port's own MAC and address (RFC 826), and probes of 0.0.0.0 (RFC 5227); IPv4 of its own
address, and DHCP's first question of 0.0.0.0 (RFC 2131); IPv6 of its own address and of the link-local one that RFC 4291
appendix A makes of its MAC, and of `::` the messages of a host that has no address yet: its router solicitation, its reports
of groups (RFC 3810) and its look whether its *own* address is taken (RFC 4862). A neighbour advertisement is of one of its own
addresses. Nobody here is a DHCP server, a router that advertises or redirects, or sends anything but these three protocols
(so no VLAN tags either). Allowed pairs are further addresses, by the port's MAC or by their own.

A packet in fragments is looked at before the host puts it together. Its first fragment must show what it is (RFC 7112): one that
hides its ICMPv6 type in a later one matches no rule that accepts. The later ones pass by their address.

So guests must not use temporary or stable-opaque IPv6 addresses (RFC 8981, RFC 7217): Neutron's rule, too.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

from net.filters.host_services import REPORTS
from taskvisor.model.network import AddressPair

DHCP_CLIENT = "udp sport 68 udp dport 67"


def sender_rules_for(mac: str, addresses: tuple[str, ...], pairs: tuple[AddressPair, ...]) -> tuple[str, ...]:
    """The rules of the chain that each frame of the port passes first; its last rule drops what none of them let pass."""
    senders = _senders_of(mac, addresses, pairs)
    return (
        "ether type != { ip, arp, ip6 } drop",
        *(rule for sender, (v4, _) in senders.items() for rule in _arp_rules(sender, v4)),
        "ether type arp drop",
        *_server_rules(),
        f"ether saddr {mac} ip saddr 0.0.0.0 ip daddr 255.255.255.255 {DHCP_CLIENT} accept",
        *(f"ether saddr {sender} ip saddr {_set_of(v4)} accept" for sender, (v4, _) in senders.items() if v4),
        *(rule for sender, (_, v6) in senders.items() for rule in _ipv6_rules(sender, v6)),
        "drop",
    )


def link_local_for(mac: str) -> str:
    """The link-local address of an interface with that MAC (RFC 4291 appendix A, RFC 2464 §5)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:]))


def _senders_of(
    mac: str, addresses: tuple[str, ...], pairs: tuple[AddressPair, ...]
) -> dict[str, tuple[list[IPv4Network], list[IPv6Network]]]:
    """The addresses of each MAC, without overlaps, which a set of nftables can't have."""
    spoken = [(mac, address) for address in (*addresses, link_local_for(mac))]
    spoken += [(pair.mac or mac, pair.address) for pair in pairs]
    spoken += [(pair.mac, link_local_for(pair.mac)) for pair in pairs if pair.mac is not None and ":" in pair.address]
    senders = {}
    for sender in dict.fromkeys(sender for sender, _ in spoken):
        own = [ip_network(address, strict=False) for other, address in spoken if other == sender]
        v4 = collapse_addresses(net for net in own if isinstance(net, IPv4Network))
        v6 = collapse_addresses(net for net in own if isinstance(net, IPv6Network))
        senders[sender] = (list(v4), list(v6))
    return senders


def _arp_rules(mac: str, own: list[IPv4Network]) -> Iterator[str]:
    if own:
        sender = f"ether saddr {mac} arp saddr ether {mac}"
        yield f"{sender} arp operation {{ request, reply }} arp saddr ip {_set_of(own)} accept"
        yield f"{sender} arp operation request arp saddr ip 0.0.0.0 accept"


def _server_rules() -> Iterator[str]:
    """By the port that clients listen on: they don't look at the sender's."""
    yield "meta protocol ip udp dport 68 drop"
    yield "meta protocol ip6 udp dport 546 drop"
    yield "icmpv6 type { nd-router-advert, nd-redirect } drop"


def _ipv6_rules(mac: str, own: list[IPv6Network]) -> Iterator[str]:
    if own:
        sender, addresses = f"ether saddr {mac}", _set_of(own)
        for target in map(_target_in, own):
            yield f"{sender} ip6 saddr :: icmpv6 type nd-neighbor-solicit {target} accept"
            yield f"{sender} ip6 saddr {addresses} icmpv6 type nd-neighbor-advert {target} accept"
        yield f"{sender} ip6 saddr :: icmpv6 type {{ nd-router-solicit, {REPORTS} }} accept"
        yield f"{sender} ip6 saddr {addresses} icmpv6 type != nd-neighbor-advert accept"
        yield f"{sender} ip6 saddr {addresses} meta l4proto != ipv6-icmp accept"
        yield f"{sender} ip6 saddr {addresses} frag frag-off != 0 accept"


def _target_in(network: IPv6Network) -> str:
    """The target of a neighbour message (RFC 4861 §4.3, byte 8 of ICMPv6) is in the network: nft 1.0.6 has no word for it."""
    return f"@th,64,128 & {int(network.netmask):#034x} == {int(network.network_address):#034x}"


def _set_of(networks: list[IPv4Network] | list[IPv6Network]) -> str:
    whole = (str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net) for net in networks)
    return f"{{ {', '.join(whole)} }}"
