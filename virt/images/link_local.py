"""Addresses that an image's URL must not lead to: link-local ones. Pure but for one look-up of a name.

At 169.254.169.254 and its kin a cloud's metadata service answers whoever is on the machine, with the machine's own
credentials; a URL that leads there asks *us* to fetch them. Sources: RFC 3927 (169.254.0.0/16), RFC 4291 §2.5.6
(fe80::/10). fd00:ec2::254 is that service by IPv6 on EC2, in a range that is otherwise a site's own.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from taskvisor.model.errors import Refused

METADATA_BY_IPV6: Final = IPv6Address("fd00:ec2::254")


def check_host(host: str, name: str) -> None:
    """Refused when the host, or any address that its name has, is link-local. `name` is what messages call the URL.

    A name that has no address now passes: who connects will say so.
    """
    for address in _addresses_of(host):
        check_address(address, name, by_name=host)


def check_address(address: str, name: str, *, by_name: str = "") -> None:
    """Refused when the address is link-local, however it is written; `by_name`: the name that led to it."""
    if is_link_local(address):
        through = f" (as {by_name})" if by_name not in ("", address) else ""
        raise Refused(
            f"{name} leads to the link-local address {address}{through}, from which no image is fetched: "
            "a metadata service may answer there; give a URL of an image server"
        )


def is_link_local(address: str) -> bool:
    """True for an address that is link-local, also within an IPv6 address (mapped, 6to4, NAT64)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return parsed.is_link_local
    inner = parsed.ipv4_mapped or parsed.sixtofour or _behind_nat64(parsed)
    return parsed.is_link_local or parsed == METADATA_BY_IPV6 or (inner is not None and inner.is_link_local)


def _behind_nat64(address: IPv6Address) -> IPv4Address | None:
    """RFC 6052: 64:ff9b::/96 holds an IPv4 address in its last four bytes."""
    packed = address.packed
    return IPv4Address(packed[12:]) if packed[:12] == b"\x00\x64\xff\x9b" + bytes(8) else None


def _addresses_of(host: str) -> tuple[str, ...]:
    """As the system's resolver says it: it also knows that 2852039166 and 0xa9.0xfe.43518 are 169.254.169.254."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
