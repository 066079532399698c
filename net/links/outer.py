"""Outer addresses that this host answers for: held by the link that leads to them, and marked as ours by their label.

An address is held as a /32 by the link that has the route to it, so that the kernel answers ARP for it; who hears it is told at
once (gratuitous ARP, RFC 5227 §3), for until then it was somebody else's. Knows nothing of what it is translated to; that has
to come first, for where nothing is translated the host itself answers.
"""

import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface

import structlog

from net.links.link import Link, LinkAddress
from net.links.netlink import Netlink
from taskvisor.model.errors import Retryable

log = structlog.get_logger(__name__)

LABEL = "taskvisor-float"  # IFA_LABEL, at most 15 bytes
ETHERTYPE_ARP = 0x0806
ARP = struct.Struct("!HHBBH6s4s6s4s")
BROADCAST = b"\xff" * 6


def ensure_held(netlink: Netlink, addresses: Collection[str]) -> None:
    """This host answers for the addresses. One that it has by somebody else's hand stays theirs.

    Where no link leads to one nobody could be answered, which is told and is no error: routers may send it here all the same, and
    guests on its network that it is not bound to have nothing to do with it.
    """
    own = {str(held.interface.ip) for held in netlink.list_addresses()} if addresses else set()
    for address in sorted(set(addresses) - own):
        _hold(netlink, address)


def announce(netlink: Netlink, addresses: Collection[str]) -> None:
    """Who hears the links that hold these addresses with our label learns that they are here; of no effect for all others."""
    for link, held in _held_by_label(netlink, addresses):
        _announce(link, held.interface.ip)


def list_held(netlink: Netlink) -> frozenset[str]:
    """The addresses with our label."""
    return frozenset(str(held.interface.ip) for held in netlink.list_addresses() if held.label == LABEL)


def ensure_let_go(netlink: Netlink, addresses: Collection[str]) -> None:
    """None of these addresses is held with our label."""
    for link, held in _held_by_label(netlink, addresses):
        netlink.ensure_address_absent(link, held.interface)
        log.info("outer_address_let_go", address=str(held.interface.ip), link=link.name)


def _held_by_label(netlink: Netlink, addresses: Collection[str]) -> list[tuple[Link, LinkAddress]]:
    """Those of the addresses that are held with our label, each with its link."""
    if not addresses:
        return []
    ours = [one for one in netlink.list_addresses() if one.label == LABEL and str(one.interface.ip) in addresses]
    links = {link.index: link for link in netlink.list_links()} if ours else {}
    return [(links[held.index], held) for held in ours if held.index in links]


def _hold(netlink: Netlink, address: str) -> None:
    link = netlink.read_link_towards(address)
    if link is None:
        log.warning("outer_address_led_to_by_no_link", address=address)
        return
    netlink.ensure_labelled_address(link, IPv4Interface(f"{address}/32"), label=LABEL)
    _announce(link, IPv4Address(address))
    log.info("outer_address_held", address=address, link=link.name)


def _announce(link: Link, address: IPv4Address) -> None:
    """Everybody on the link learns whose the address is now. A link without MACs has nobody to tell."""
    if not link.mac:
        return
    mac = bytes.fromhex(link.mac.replace(":", ""))
    question = ARP.pack(1, 0x0800, 6, 4, 1, mac, address.packed, bytes(6), address.packed)
    frame = BROADCAST + mac + struct.pack("!H", ETHERTYPE_ARP) + question
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as wire:
            wire.bind((link.name, ETHERTYPE_ARP))
            wire.send(frame)
    except OSError as error:
        raise Retryable(f"can't announce {address} on {link.name}: {error}") from error
