"""The kernel's count of changes to nftables in a network namespace: one message, no subprocess.

Every committed nftables transaction, by anybody, iptables-nft included, raises it. So "the count is what it was when I
last looked" proves that nothing has been changed since, which no cache file could. Source: linux/netfilter/
nf_tables.h, NFT_MSG_GETGEN. Plain sockets: pyroute2 0.9's NFTSocket can't send a request without a dump.

A count is one namespace's since its making. So that it may outlive the process that read it, it bears which one: the boot's
id (Documentation/admin-guide/sysctl/kernel.rst, random) and the namespace's cookie, which no other has until the next boot
(socket(7), SO_NETNS_COOKIE, Linux 5.14).
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from taskvisor.model.errors import CannotAsk, DoesNotFit

ANSWER_LIMIT_S = 5.0
NETLINK_NETFILTER = 12
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
SO_NETNS_COOKIE = 71
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NFT_MSG_NEWGEN = 10 << 8 | 15  # subsystem nftables
NFT_MSG_GETGEN = 10 << 8 | 16
NFTA_GEN_ID = 1
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
FAMILY = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
REQUEST = HEADER.pack(HEADER.size + FAMILY.size, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0) + FAMILY.pack(0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The count, and of which namespace."""

    namespace: str
    count: int

    def follows(self, before: "Generation") -> bool:
        """One transaction, and no more, was committed since `before`."""
        return self.namespace == before.namespace and self.count == before.count + 1


def read_generation() -> Generation:
    """The count now. DoesNotFit when this process may not ask (CAP_NET_ADMIN); CannotAsk when there is no answer."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(ANSWER_LIMIT_S)
            kernel.sendto(REQUEST, (0, 0))
            answer = kernel.recv(8192)
            namespace = _namespace_of(kernel)
    except OSError as error:
        raise CannotAsk(f"can't ask the kernel for the generation of its nftables rules: {error}") from error
    return Generation(namespace=namespace, count=parse_generation(answer))


def parse_generation(answer: bytes) -> int:
    """The count in the kernel's answer; errors as of `read_generation`."""
    _, kind, *_ = HEADER.unpack_from(answer)
    if kind == NLMSG_ERROR:
        code = -struct.unpack_from("=i", answer, HEADER.size)[0]
        if code == errno.EPERM:
            raise DoesNotFit("can't look at nftables: this process lacks CAP_NET_ADMIN; run the worker as root")
        raise CannotAsk(f"the kernel does not tell the generation of its nftables rules: error {code}")
    offset = HEADER.size + FAMILY.size
    while kind == NFT_MSG_NEWGEN and offset + ATTRIBUTE.size < len(answer):
        length, attribute = ATTRIBUTE.unpack_from(answer, offset)
        if attribute == NFTA_GEN_ID:
            generation: int = struct.unpack_from(">I", answer, offset + ATTRIBUTE.size)[0]
            return generation
        offset += max(ATTRIBUTE.size, (length + 3) & ~3)
    raise CannotAsk("the kernel's answer has no generation of its nftables rules")


def _namespace_of(kernel: socket.socket) -> str:
    try:
        cookie = struct.unpack("=Q", kernel.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return f"process {_process_id(os.getpid())}"
    return f"{_boot_id()} {cookie}"


@lru_cache(maxsize=1)
def _boot_id() -> str:
    return BOOT_ID.read_text().strip()


@lru_cache(maxsize=1)
def _process_id(pid: int) -> str:
    """An older kernel can't tell namespaces apart for good: there a count means something to the process that read it only."""
    return f"{pid} {uuid4()}"
