"""A guest at the other end of a TAP, as QEMU is: it opens the device and speaks DHCP in raw frames (RFC 2131)."""

import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from net.links.tun import DEVICE, IFF_NO_PI, IFF_TAP, IFREQ, TUNSETIFF

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
MAGIC = b"\x63\x82\x53\x63"
BROADCAST_FLAG = 0x8000
ETHERTYPE_IPV4 = b"\x08\x00"
ANSWER_LIMIT_S = 3.0
SILENCE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server said: the address, and the options by number."""

    kind: int
    address: str
    options: dict[int, bytes]

    def addresses(self, option: int) -> tuple[str, ...]:
        raw = self.options.get(option, b"")
        return tuple(socket.inet_ntoa(raw[i : i + 4]) for i in range(0, len(raw), 4))


@dataclass(frozen=True, kw_only=True)
class Guest:
    """An open TAP and the MAC that the guest has."""

    fd: int
    mac: str

    def lease(self) -> Answer:
        """The whole exchange: discover, offer, request, acknowledgement."""
        offer = self.ask(DISCOVER)
        assert offer is not None, f"no offer for {self.mac}"
        server = offer.options[54]
        wanted = bytes((50, 4)) + socket.inet_aton(offer.address) + bytes((54, 4)) + server
        answer = self.ask(REQUEST, wanted)
        assert answer is not None, f"no acknowledgement for {self.mac}"
        assert (offer.kind, answer.kind) == (OFFER, ACK)
        return answer

    def ask(self, kind: int, more: bytes = b"", *, limit_s: float = ANSWER_LIMIT_S) -> Answer | None:
        """One message; the answer to it, or None when there is none in time. Asked again each 0.2 s, as clients do."""
        deadline = time.monotonic() + limit_s
        while (now := time.monotonic()) < deadline:
            os.write(self.fd, self._frame(kind, more))
            if answer := self._answer(min(deadline, now + 0.2)):
                return answer
        return None

    def _answer(self, deadline: float) -> Answer | None:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                answer = _parse(os.read(self.fd, 65536), self.mac)
                if answer is not None:
                    return answer
        return None

    def _frame(self, kind: int, more: bytes) -> bytes:
        mac = _raw(self.mac)
        dhcp = struct.pack("!BBBBIHH16s16s192x", 1, 1, 6, 0, 7, 0, BROADCAST_FLAG, b"", mac)
        # 55: asks for netmask, router, DNS and name, not for the MTU: it is sent all the same
        dhcp += MAGIC + bytes((53, 1, kind, 55, 4, 1, 3, 6, 12)) + more + b"\xff"
        udp = struct.pack("!HHHH", 68, 67, 8 + len(dhcp), 0) + dhcp
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        return b"\xff" * 6 + mac + ETHERTYPE_IPV4 + head + udp


@contextmanager
def open_guest(tap: str, mac: str) -> Iterator[Guest]:
    """A guest that has the existing TAP open, as libvirt would for it."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(tap.encode(), IFF_TAP | IFF_NO_PI))
        yield Guest(fd=fd, mac=mac)
    finally:
        os.close(fd)


def _parse(frame: bytes, mac: str) -> Answer | None:
    """A DHCP answer to that MAC; None for any other frame."""
    dhcp = frame[14 + 20 + 8 :]
    if frame[12:14] != ETHERTYPE_IPV4 or frame[23] != 17 or frame[36:38] != b"\x00\x44" or dhcp[28:34] != _raw(mac):
        return None
    options: dict[int, bytes] = {}
    rest = dhcp[240:]
    while rest and rest[0] != 0xFF:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return Answer(kind=options[53][0], address=socket.inet_ntoa(dhcp[16:20]), options=options)


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    folded: int = (total & 0xFFFF) + (total >> 16)
    return ~folded & 0xFFFF
