"""The connections that this network namespace remembers, by ctnetlink: those of an address read, marked and forgotten.

Knows no rule. Of IPv4 the kernel picks by address, so a
host with many connections is asked for few; of IPv6 it must tell all, for there its choice is inverted (seen on Linux 6.18:
ctnetlink_filter_match_tuple takes the result of ipv6_addr_cmp for a match). These are read from a plain socket, and only those
that have the address anywhere in them are parsed: pyroute2 takes a hundred times as long to parse one. What is too much is passed
over here.

An entry is named by its reply's tuple, whose zone is one that the kernel's words can say, and is forgotten only if it still bears
its own id: never another that took its place. Source: linux/netfilter/nfnetlink_conntrack.h, the kernel's nf_conntrack_netlink.c.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pyroute2 import NFCTSocket
from pyroute2.netlink import NETLINK_NETFILTER, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import nfctsocket

from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable

EXPECTED = 1 << 0  # IPS_EXPECTED (linux/netfilter/nf_conntrack_common.h): begun because of another connection
NO_ZONE = 0
FAMILIES: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
_ENTRY = nfctsocket.NFNL_SUBSYS_CTNETLINK << 8 | nfctsocket.IPCTNL_MSG_CT_NEW
_DUMP = nfctsocket.NFNL_SUBSYS_CTNETLINK << 8 | nfctsocket.IPCTNL_MSG_CT_GET
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_ERROR = struct.Struct("=i")
ANSWER_LIMIT_S = 5.0
ANSWER_BYTES = 1 << 16
_MISSING = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_FORBIDDEN = (errno.EPERM, errno.EACCES)


class ConntrackMissing(DoesNotFit):
    """This kernel has no ctnetlink (nf_conntrack_netlink)."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One direction of a connection: what its packets bear. Ports of tcp, udp, sctp; else None, as are ICMP's fields."""

    source: str
    destination: str
    protocol: int
    zone: int = NO_ZONE
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An entry as it was when asked. `original` is as it was begun, `reply` as its answers come: translations differ there."""

    id: int
    original: Flow
    reply: Flow
    mark: int = 0
    is_expected: bool = False


class Conntrack:
    """Two sockets, one of each family. Every method: ConntrackMissing when the kernel can't, DoesNotFit when this process may
    not (CAP_NET_ADMIN), CannotAsk when a look failed, Retryable when a change did.
    """

    def __init__(self, by_family: dict[int, NFCTSocket]) -> None:
        self._by_family = by_family
        self._all6: tuple[bytes, ...] | None = None

    def list_begun_by(self, address: str) -> tuple[Connection, ...]:
        """The connections whose first packet was from the address."""
        return tuple(one for one in self._listed(address, "tuple_orig", "saddr") if one.original.source == address)

    def list_answered_by(self, address: str) -> tuple[Connection, ...]:
        """The connections that the address answers, to whatever address they were begun."""
        return tuple(one for one in self._listed(address, "tuple_reply", "saddr") if one.reply.source == address)

    def list_begun_to(self, address: str) -> tuple[Connection, ...]:
        """The connections that were begun to the address, whoever answers them."""
        found = self._listed(address, "tuple_orig", "daddr")
        return tuple(one for one in found if one.original.destination == address)

    def list_answered_to(self, address: str) -> tuple[Connection, ...]:
        """The connections whose answers go to the address, whoever began them."""
        found = self._listed(address, "tuple_reply", "daddr")
        return tuple(one for one in found if one.reply.destination == address)

    def ensure_marked(self, connection: Connection, bits: int, *, among: int) -> None:
        """Of the mark's bits `among`, the connection's has `bits`; no other is changed. One that has ended needs none."""
        if connection.mark & among != bits:
            self._change("set", connection, mark=bits, mark_mask=among)

    def ensure_absent(self, connection: Connection) -> None:
        """The connection is not remembered."""
        self._change("del", connection, id=connection.id)

    def _listed(self, address: str, direction: str, field: str) -> tuple[Connection, ...]:
        """Those of the address, and some others."""
        family = _family_of(address)
        try:
            if family == socket.AF_INET:
                wanted = nfctsocket.NFCTAttrTuple(**{field: address})
                found = tuple(self._by_family[family].dump(**{direction: wanted}))
            else:
                packed = socket.inet_pton(family, address)
                found = tuple(_parsed(raw) for raw in self._raw6() if packed in raw)
        except (NetlinkError, OSError) as error:
            raise _asked(error, f"list the connections of {address}") from error
        return tuple(_connection_of(message, family) for message in found)

    def _raw6(self) -> tuple[bytes, ...]:
        """All of IPv6, asked for once."""
        if self._all6 is None:
            self._all6 = tuple(_dumped(socket.AF_INET6))
        return self._all6

    def _change(self, verb: str, connection: Connection, **values: int) -> None:
        reply, family = connection.reply, _family_of(connection.reply.source)
        zone = {"zone": reply.zone} if reply.zone != NO_ZONE else {}
        try:
            self._by_family[family].entry(verb, tuple_reply=_tuple_for(reply, family), **zone, **values)
        except (NetlinkError, OSError) as error:
            code = error.code if isinstance(error, NetlinkError) else error.errno
            if code == errno.ENOENT:
                return
            if code in _FORBIDDEN:
                raise _forbidden() from error
            what = f"{reply.destination} to {reply.source}"
            raise Retryable(f"can't change the kernel's memory of a connection of {what}: {error}") from error


@contextmanager
def open_conntrack() -> Iterator[Conntrack]:
    """In the caller's network namespace, closed at the end of the block. CannotAsk when no socket can be had."""
    try:
        opened = {family: NFCTSocket(nfgen_family=family) for family in FAMILIES}
    except OSError as error:
        raise CannotAsk(f"can't open a netlink socket: {error}") from error
    try:
        for one in opened.values():
            one.asyncore.register_policy({_ENTRY: _Message})
        yield Conntrack(opened)
    finally:
        for one in opened.values():
            one.close()


class _Tuple(nfctsocket.nfct_msg.cta_tuple):  # type: ignore[misc]
    """With the zone of one direction, which pyroute2 0.9 does not know.

    Each class keeps its map of attributes as compiled at its first use, and takes one that its parent has for its own: hence the
    flag under its private name.
    """

    _nlmsg_base__compiled_nla: ClassVar[bool] = False
    nla_map: ClassVar[Any] = (*nfctsocket.nfct_msg.cta_tuple.nla_map, ("CTA_TUPLE_ZONE", "be16"))


class _Message(nfctsocket.nfct_msg):  # type: ignore[misc]
    _nlmsg_base__compiled_nla: ClassVar[bool] = False
    nla_map: ClassVar[Any] = nfctsocket.nfct_msg.nla_map
    cta_tuple = _Tuple


def _dumped(family: int) -> Iterator[bytes]:
    """The messages of all entries of a family, as the kernel sent them. OSError when it refused or fell silent."""
    request = _HEADER.pack(_HEADER.size + _FAMILY.size, _DUMP, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + _FAMILY.pack(
        family, 0, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(ANSWER_LIMIT_S)
        kernel.sendto(request, (0, 0))
        while True:
            for kind, raw in _split(kernel.recv(ANSWER_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -_ERROR.unpack_from(raw, _HEADER.size)[0]
                    raise OSError(code, os.strerror(code))
                yield raw


def _split(answer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, offset)
        yield kind, answer[offset : offset + length]
        offset += max(_HEADER.size, (length + 3) & ~3)


def _parsed(raw: bytes) -> Any:
    message = _Message(raw)
    message.decode()
    return message


def _connection_of(message: Any, family: int) -> Connection:
    original = _flow_of(message.get_attr("CTA_TUPLE_ORIG"), family)
    reply = _flow_of(message.get_attr("CTA_TUPLE_REPLY"), family)
    zone = message.get_attr("CTA_ZONE")  # of both directions
    return Connection(
        id=message.get_attr("CTA_ID"),
        original=original if zone is None else replace(original, zone=zone),
        reply=reply if zone is None else replace(reply, zone=zone),
        mark=message.get_attr("CTA_MARK") or 0,
        is_expected=bool((message.get_attr("CTA_STATUS") or 0) & EXPECTED),
    )


def _flow_of(part: Any, family: int) -> Flow:
    version, icmp = ("V4", "ICMP") if family == socket.AF_INET else ("V6", "ICMPV6")
    addresses, protocol = part.get_attr("CTA_TUPLE_IP"), part.get_attr("CTA_TUPLE_PROTO")
    return Flow(
        source=addresses.get_attr(f"CTA_IP_{version}_SRC"),
        destination=addresses.get_attr(f"CTA_IP_{version}_DST"),
        protocol=protocol.get_attr("CTA_PROTO_NUM"),
        zone=part.get_attr("CTA_TUPLE_ZONE") or NO_ZONE,
        source_port=protocol.get_attr("CTA_PROTO_SRC_PORT"),
        destination_port=protocol.get_attr("CTA_PROTO_DST_PORT"),
        icmp_type=protocol.get_attr(f"CTA_PROTO_{icmp}_TYPE"),
        icmp_code=protocol.get_attr(f"CTA_PROTO_{icmp}_CODE"),
        icmp_id=protocol.get_attr(f"CTA_PROTO_{icmp}_ID"),
    )


def _tuple_for(flow: Flow, family: int) -> Any:
    return nfctsocket.NFCTAttrTuple(
        family=family,
        saddr=flow.source,
        daddr=flow.destination,
        proto=flow.protocol,
        sport=flow.source_port,
        dport=flow.destination_port,
        icmp_id=flow.icmp_id,
        icmp_type=flow.icmp_type,
        icmp_code=flow.icmp_code,
    )


def _family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _asked(error: NetlinkError | OSError, what: str) -> DoesNotFit | CannotAsk:
    code = error.code if isinstance(error, NetlinkError) else error.errno
    if code in _FORBIDDEN:
        return _forbidden()
    if code in _MISSING:
        return ConntrackMissing(f"can't {what}: this kernel has no ctnetlink ({error}); load nf_conntrack_netlink")
    return CannotAsk(f"can't {what}: {error}; what is there is not known")


def _forbidden() -> DoesNotFit:
    return DoesNotFit("can't look at connections: this process lacks CAP_NET_ADMIN; run the worker as root or grant it")
