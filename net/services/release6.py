"""Giving a guest's DHCPv6 lease back on its behalf: one RELEASE to this host's own server (RFC 8415 §18.2.7).

As for IPv4 (net/services/release.py): dnsmasq gives an address to no other client while a lease on it stands, and has no
command to end one. What the message must name, the client's DUID above all, is in the server's lease file. Best effort: no answer
is awaited.
"""

import socket
import struct

import structlog

from net.services.dnsmasq import Lease6

log = structlog.get_logger(__name__)

SERVERS = "ff02::1:2"  # All_DHCP_Relay_Agents_and_Servers
SERVER_PORT = 547
RELEASE = 8
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, ELAPSED = 1, 2, 3, 5, 8
TRANSACTION = b"\x00\x00\x01"


def send_release6(interface: str, lease: Lease6) -> None:
    """Tell the server on this host's `interface` that the lease's client gives it up. Never fails: see the module."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            # A multicast comes back to this host's own listeners on the link that it is sent on.
            sender.sendto(release6_for(lease), (SERVERS, SERVER_PORT, 0, socket.if_nametoindex(interface)))
    except OSError as error:
        log.warning("lease_not_released", bridge=interface, address=lease.address, error=str(error))


def release6_for(lease: Lease6) -> bytes:
    """The message: its type, a transaction id, and options, each with its code and length (RFC 8415 §21.1)."""
    address = socket.inet_pton(socket.AF_INET6, lease.address) + struct.pack("!II", 0, 0)
    association = struct.pack("!III", lease.iaid, 0, 0) + _option(IA_ADDRESS, address)
    return (
        bytes((RELEASE,))
        + TRANSACTION
        + _option(CLIENT_ID, _duid(lease.duid))
        + _option(SERVER_ID, _duid(lease.server_duid))
        + _option(ELAPSED, bytes(2))
        + _option(IA_NA, association)
    )


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def _duid(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
