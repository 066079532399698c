"""Where guests of other hosts are, in the kernel's forwarding and neighbour tables: read, and changed many at a time.

Knows no network and no owner. pyroute2 writes the messages (its IPBatch sends nothing); they go out a hundred to a send, on a
socket of this module, and the kernel's answers come back in order: a fourth of the time that one by one takes. An answer takes
room on the receiving side while it waits, so more at a time could be lost (ENOBUFS).

A look may miss an entry of an address while others are changed: the kernel has one table for all namespaces, and does not mark
such a look. Whoever converges by difference then adds what is there, which is harmless, or removes it the next time.
Source: rtnetlink(7), bridge(8) `bridge fdb`.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pyroute2 import IPBatch, IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable

CHUNK_MESSAGES = 100
ANSWER_LIMIT_S = 5.0
DUMP_TRIES = 5
AF_BRIDGE, AF_INET, AF_INET6 = 7, 2, 10
NTF_SELF, NTF_MASTER = 0x02, 0x04  # linux/neighbour.h
NUD_REACHABLE, NUD_NOARP, NUD_PERMANENT = 0x02, 0x40, 0x80
ANY_MAC = "00:00:00:00:00:00"
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ERROR = struct.Struct("=i")
_NLMSG_ERROR = 2


class Table(StrEnum):
    """Which of a link's tables."""

    TUNNEL = (
        "tunnel"  # of a tunnel: behind which host's end a MAC is; ANY_MAC: every host that unknown MACs are sent to
    )
    BRIDGE = "bridge"  # of a bridge's port: that a MAC is behind it
    ADDRESS = "address"  # of a bridge: which MAC has an address


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One entry, of the link of that index. `destination`: of a tunnel the other host's end, of an address that; else ""."""

    table: Table
    index: int
    mac: str
    destination: str = ""

    @property
    def key(self) -> tuple[Table, int, str]:
        """What the kernel has at most one entry of: adding another of that key replaces it."""
        if self.table is Table.ADDRESS:
            return (self.table, self.index, self.destination)
        return (self.table, self.index, f"{self.mac} {self.destination}" if self.mac == ANY_MAC else self.mac)


class Neighbours:
    """One socket for looks; changes have their own. Errors as of `Netlink`."""

    def __init__(self, ipr: IPRoute) -> None:
        self._ipr = ipr

    def list_behind(self, tunnel_index: int) -> tuple[Neighbour, ...]:
        """The entries of a tunnel, and those of its bridge that somebody set for it; not what a bridge learned."""
        found = self._dumped(AF_BRIDGE, tunnel_index)
        return tuple(entry for message in found if (entry := _behind(message)) is not None)

    def list_addresses(self, bridge_index: int) -> tuple[Neighbour, ...]:
        """The addresses whose MAC somebody set for the bridge, v4 and v6; not what it asked for itself."""
        found = (*self._dumped(AF_INET, bridge_index), *self._dumped(AF_INET6, bridge_index))
        return tuple(
            Neighbour(
                table=Table.ADDRESS,
                index=bridge_index,
                mac=message.get_attr("NDA_LLADDR"),
                destination=message.get_attr("NDA_DST"),
            )
            for message in found
            if message["state"] & NUD_PERMANENT
        )

    def change(self, removed: Collection[Neighbour], added: Collection[Neighbour]) -> None:
        """The entries are gone, and there. What is gone or there already is no error; an interruption leaves a part done."""
        if not removed and not added:
            return
        harmless = [*([0] * len(added)), *([errno.ENOENT] * len(removed))]
        # First what is added: an entry that replaces another does so without a moment in which there is neither.
        messages = _messages_for(removed, added)
        with _open_changes() as kernel:
            for start in range(0, len(messages), CHUNK_MESSAGES):
                chunk = slice(start, start + CHUNK_MESSAGES)
                _change_chunk(kernel, messages[chunk], harmless[chunk])

    def _dumped(self, family: int, index: int) -> list[Any]:
        what = f"list the neighbours of link {index}"
        for _ in range(DUMP_TRIES):
            try:
                found = list(self._ipr.get_neighbours(family=family, ifindex=index))
                return [message for message in found if message["ifindex"] == index]
            except NetlinkDumpInterrupted:
                continue
            except (NetlinkError, OSError) as error:
                raise CannotAsk(f"can't {what}: {error}; what is there is not known") from error
        raise CannotAsk(f"can't {what}: they changed during each of {DUMP_TRIES} looks; try again")


@contextmanager
def open_neighbours() -> Iterator[Neighbours]:
    """A socket in the caller's network namespace, closed at the end of the block. CannotAsk when none can be had."""
    try:
        ipr = IPRoute()
    except OSError as error:
        raise CannotAsk(f"can't open a netlink socket: {error}") from error
    try:
        yield Neighbours(ipr)
    finally:
        ipr.close()


def _behind(message: Any) -> Neighbour | None:
    mac, destination = message.get_attr("NDA_LLADDR"), message.get_attr("NDA_DST")
    if message["flags"] & NTF_SELF and destination is not None:
        return Neighbour(table=Table.TUNNEL, index=message["ifindex"], mac=mac, destination=destination)
    if message.get_attr("NDA_MASTER") is not None and message["state"] & NUD_NOARP:
        return Neighbour(table=Table.BRIDGE, index=message["ifindex"], mac=mac)
    return None


def _messages_for(removed: Collection[Neighbour], added: Collection[Neighbour]) -> list[bytes]:
    batch = IPBatch()
    try:
        for entry in added:
            _add(batch, entry)
        for entry in removed:
            _remove(batch, entry)
        return list(_split(bytes(batch.batch)))
    finally:
        batch.close()


def _add(batch: IPBatch, entry: Neighbour) -> None:
    if entry.table is Table.ADDRESS:
        family = AF_INET6 if ":" in entry.destination else AF_INET
        batch.neigh(
            "replace",
            family=family,
            ifindex=entry.index,
            dst=entry.destination,
            lladdr=entry.mac,
            state=NUD_PERMANENT,
        )
    elif entry.mac == ANY_MAC:
        batch.fdb("append", ifindex=entry.index, lladdr=entry.mac, **_fdb_of(entry))
    else:
        batch.fdb("replace", ifindex=entry.index, lladdr=entry.mac, **_fdb_of(entry))


def _remove(batch: IPBatch, entry: Neighbour) -> None:
    if entry.table is Table.ADDRESS:
        family = AF_INET6 if ":" in entry.destination else AF_INET
        batch.neigh("del", family=family, ifindex=entry.index, dst=entry.destination)
    else:
        batch.fdb("del", ifindex=entry.index, lladdr=entry.mac, **_fdb_of(entry))


def _fdb_of(entry: Neighbour) -> dict[str, Any]:
    if entry.table is Table.BRIDGE:
        return {"flags": NTF_MASTER, "state": NUD_NOARP | NUD_REACHABLE}
    state = NUD_PERMANENT if entry.mac == ANY_MAC else NUD_NOARP | NUD_REACHABLE
    return {"flags": NTF_SELF, "state": state, "dst": entry.destination}


def _split(raw: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(raw):
        length = (_HEADER.unpack_from(raw, offset)[0] + 3) & ~3
        yield raw[offset : offset + length]
        offset += length


@contextmanager
def _open_changes() -> Iterator[socket.socket]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.settimeout(ANSWER_LIMIT_S)
            yield kernel
    except OSError as error:
        raise Retryable(f"can't tell the kernel where guests of other hosts are: {error}") from error


def _change_chunk(kernel: socket.socket, messages: Sequence[bytes], harmless: Sequence[int]) -> None:
    kernel.sendto(b"".join(messages), (0, 0))
    codes: list[int] = []
    while len(codes) < len(messages):
        codes += parse_codes(kernel.recv(1 << 16))
    for code, ignored in zip(codes, harmless, strict=True):
        if code in (errno.EPERM, errno.EACCES):
            raise DoesNotFit("can't change the kernel's neighbours: this process lacks CAP_NET_ADMIN; run it as root")
        if code not in (0, ignored):
            raise Retryable(f"can't tell the kernel where guests of other hosts are: {os.strerror(code)}")


def parse_codes(answer: bytes) -> list[int]:
    """The errno of each acknowledgement in what the kernel sent; 0 is success."""
    codes, offset = [], 0
    while offset + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, offset)
        if kind == _NLMSG_ERROR:
            codes.append(-_ERROR.unpack_from(answer, offset + _HEADER.size)[0])
        offset += max(_HEADER.size, (length + 3) & ~3)
    return codes
