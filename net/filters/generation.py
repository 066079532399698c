"""The kernel's count of changes to nftables in this network namespace: one message, no subprocess.

Every committed nftables transaction, by anybody, iptables-nft included, raises it. So "the count is what it was when I
last looked" proves that nothing has been changed since, which no cache file could. Source: linux/netfilter/
nf_tables.h, NFT_MSG_GETGEN. Plain sockets: pyroute2 0.9's NFTSocket can't send a request without a dump.
"""

import errno
import socket
import struct

from taskvisor.model.errors import CannotAsk, DoesNotFit

ANSWER_LIMIT_S = 5.0
NETLINK_NETFILTER = 12
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NFT_MSG_NEWGEN = 10 << 8 | 15  # subsystem nftables
NFT_MSG_GETGEN = 10 << 8 | 16
NFTA_GEN_ID = 1
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
FAMILY = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
REQUEST = HEADER.pack(HEADER.size + FAMILY.size, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0) + FAMILY.pack(0, 0, 0)


def read_generation() -> int:
    """The count now. DoesNotFit when this process may not ask (CAP_NET_ADMIN); CannotAsk when there is no answer."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(ANSWER_LIMIT_S)
            kernel.sendto(REQUEST, (0, 0))
            answer = kernel.recv(8192)
    except OSError as error:
        raise CannotAsk(f"can't ask the kernel for the generation of its nftables rules: {error}") from error
    return parse_generation(answer)


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
