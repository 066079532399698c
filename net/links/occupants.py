"""What is on a bridge: one dump, of which only the few words are read that tell whose each link is.

pyroute2 takes half a millisecond to read one link; of a bridge with a hundred ports that made half of what an unplug cost. So
this asks and reads by itself. Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from net.links.netlink import Link
from taskvisor.model.errors import CannotAsk

ANSWER_LIMIT_S = 5.0
ANSWER_BYTES = 1 << 16
DUMP_TRIES = 5
RTM_NEWLINK, RTM_GETLINK = 16, 18
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x10, 0x300
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_IFALIAS, IFLA_EXT_MASK = 1, 3, 10, 20, 29
RTEXT_FILTER_SKIP_STATS = 8
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_NUMBER = struct.Struct("=I")


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """A link on a bridge."""

    index: int
    name: str
    alias: str | None
    mac: str


class _Disturbed(Exception):
    """Links came or went during the dump."""


def list_occupants(bridge: Link) -> tuple[Occupant, ...]:
    """The links that are on the bridge, whoever put them there. CannotAsk when the kernel does not say."""
    for _ in range(DUMP_TRIES):
        try:
            return tuple(_dumped(bridge))
        except _Disturbed:
            continue
        except OSError as error:
            raise CannotAsk(f"can't list the ports of {bridge.name}: {error}; what is on it is not known") from error
    raise CannotAsk(
        f"can't list the ports of {bridge.name}: links changed during each of {DUMP_TRIES} looks; try again"
    )


def _dumped(bridge: Link) -> Iterator[Occupant]:
    filters = _attribute(IFLA_MASTER, bridge.index) + _attribute(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    body = _LINK.pack(0, 0, 0, 0, 0) + filters
    header = _HEADER.pack(_HEADER.size + len(body), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(ANSWER_LIMIT_S)
        kernel.sendto(header + body, (0, 0))
        while True:
            for kind, payload in _messages(kernel.recv(ANSWER_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == RTM_NEWLINK and (found := parse_occupant(payload, bridge.index)) is not None:
                    yield found


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(answer):
        length, kind, flags, *_ = _HEADER.unpack_from(answer, offset)
        payload = answer[offset + _HEADER.size : offset + length]
        if flags & NLM_F_DUMP_INTR:
            raise _Disturbed
        if kind == NLMSG_ERROR:
            code = -struct.unpack_from("=i", payload)[0]
            raise OSError(code or errno.EPROTO, os.strerror(code or errno.EPROTO))
        yield kind, payload
        offset += max(_HEADER.size, (length + 3) & ~3)


def parse_occupant(payload: bytes, bridge_index: int) -> Occupant | None:
    """What a RTM_NEWLINK says; None when that link is not on the bridge: older kernels do not filter."""
    _, _, index, _, _ = _LINK.unpack_from(payload)
    attributes = _attributes_of(payload[_LINK.size :])
    master = attributes.get(IFLA_MASTER)
    if master is None or _NUMBER.unpack(master)[0] != bridge_index:
        return None
    alias = attributes.get(IFLA_IFALIAS)
    return Occupant(
        index=index,
        name=_text(attributes[IFLA_IFNAME]),
        alias=_text(alias) if alias is not None else None,
        mac=attributes.get(IFLA_ADDRESS, b"").hex(":"),
    )


def _attributes_of(raw: bytes) -> Mapping[int, bytes]:
    found, offset = {}, 0
    while offset + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, offset)
        found[kind] = raw[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return found


def _attribute(kind: int, number: int) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + _NUMBER.size, kind) + _NUMBER.pack(number)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
