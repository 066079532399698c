"""Giving a guest's lease back on its behalf: one DHCPRELEASE to this host's own server (RFC 2131 §4.4.6).

dnsmasq gives an address to no other MAC while a lease on it stands, for up to a day. It has no command to end a lease
but the packet that the guest itself would send. Best effort: nothing answers it.
"""

import socket
import struct

import structlog

log = structlog.get_logger(__name__)

BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s192x4s")  # RFC 2131 §2; the 192 bytes are sname and file
MAGIC = b"\x63\x82\x53\x63"
SERVER_PORT = 67
MESSAGE_RELEASE = bytes((53, 1, 7))
SERVER_IDENTIFIER = bytes((54, 4))
END = b"\xff"
NOWHERE = bytes(4)
LEAST_BYTES = 300  # RFC 1542 §2.1: a shorter BOOTP message may be dropped


def send_release(*, bridge: str, server: str, address: str, mac: str) -> None:
    """Tell the server `server` on this host's `bridge` that `mac` gives `address` up. Never fails: see the module."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            # Bound to the bridge, so that the packet, which goes through the loopback, counts as received there.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
            sender.sendto(release_for(server=server, address=address, mac=mac), (server, SERVER_PORT))
    except OSError as error:
        log.warning("lease_not_released", bridge=bridge, address=address, error=str(error))


def release_for(*, server: str, address: str, mac: str) -> bytes:
    """The message: op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, options."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    head = BOOTP.pack(
        1, 1, len(hardware), 0, 1, 0, 0, socket.inet_aton(address), NOWHERE, NOWHERE, NOWHERE, hardware, MAGIC
    )
    options = MESSAGE_RELEASE + SERVER_IDENTIFIER + socket.inet_aton(server) + END
    return (head + options).ljust(LEAST_BYTES, b"\0")
