"""The kernel's links and addresses, by rtnetlink (rtnetlink(7)). The only module that imports pyroute2.

Knows no owner and no policy. A socket belongs to the process and the network namespace that opened it, so one is
opened for each piece of work (0.4 ms) and closed with it. /sys/class/net is never read: it shows the namespace that
sysfs was mounted in, not the caller's.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable

TAP = "tap"
TUN = "tun"
BRIDGE = "bridge"

IFF_UP = 0x1  # linux/if.h
IFF_TAP = 0x2  # linux/if_tun.h; the kernel gives both TAP and TUN the kind "tun"
AF_INET = 2
DUMP_TRIES = 5

_FORBIDDEN = (errno.EPERM, errno.EACCES)
_MALFORMED = (errno.EINVAL, errno.ERANGE, errno.EADDRNOTAVAIL)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link as it was when asked. `kind` is None for what is not virtual; `mac` is "" for what has none."""

    index: int
    name: str
    kind: str | None
    alias: str | None
    mac: str
    mtu: int
    master: int | None  # the index of the bridge it is on
    up: bool


@dataclass(frozen=True, kw_only=True)
class LinkAddress:
    """An IPv4 address and the link that holds it."""

    index: int
    interface: IPv4Interface


class Netlink:
    """One socket. Changes name a link by its index, so that a stranger that took the name meanwhile is never hit.

    Every method: DoesNotFit when this process may not (CAP_NET_ADMIN), CannotAsk when a look-up failed, Refused when
    the kernel rejects the value, Retryable for all else, a link that vanished under a change included.
    """

    def __init__(self, ipr: IPRoute) -> None:
        self._ipr = ipr

    def read_link(self, name: str) -> Link | None:
        """The link; None when the kernel says that there is none of that name."""
        try:
            return _link_of(self._ipr.link("get", ifname=name)[0])
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise _asked(error, f"read link {name}") from error
        except OSError as error:
            raise _asked(error, f"read link {name}") from error

    def list_links(self) -> tuple[Link, ...]:
        """Every link of this namespace."""
        found = _dumped(lambda: list(self._ipr.get_links()), "list links")
        return tuple(_link_of(message) for message in found)

    def list_ports(self, bridge: Link) -> tuple[Link, ...]:
        """The links that are on the bridge, whoever put them there."""
        found = _dumped(lambda: list(self._ipr.get_links(master=bridge.index)), f"list the ports of {bridge.name}")
        return tuple(link for link in map(_link_of, found) if link.master == bridge.index)

    def list_addresses(self) -> tuple[LinkAddress, ...]:
        """Every IPv4 address of this namespace."""
        found = _dumped(lambda: list(self._ipr.get_addr(family=AF_INET)), "list addresses")
        return tuple(_address_of(message) for message in found)

    def list_addresses_of(self, link: Link) -> tuple[IPv4Interface, ...]:
        """The IPv4 addresses of a link."""
        found = _dumped(
            lambda: list(self._ipr.get_addr(family=AF_INET, index=link.index)), f"list the addresses of {link.name}"
        )
        return tuple(_address_of(message).interface for message in found if message["index"] == link.index)

    def ensure_bridge_exists(self, name: str, *, mac: str) -> None:
        """A link of that name exists: a new bridge without spanning tree or forward delay, or what was there before.

        Spanning tree would hold back a port's frames for 30 s, longer than a guest's DHCP client waits.
        """
        with _changing(f"make bridge {name}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=BRIDGE, address=mac, br_stp_state=0, br_forward_delay=0)

    def ensure_link_absent(self, link: Link) -> None:
        """The link is gone."""
        with _changing(f"remove link {link.name}", harmless=errno.ENODEV):
            self._ipr.link("del", index=link.index)

    def ensure_alias(self, link: Link, alias: str) -> None:
        """The link bears the alias."""
        if link.alias != alias:
            with _changing(f"set the alias of {link.name}"):
                self._ipr.link("set", index=link.index, ifalias=alias)

    def ensure_mtu(self, link: Link, mtu: int) -> None:
        """The link's MTU is `mtu` bytes."""
        if link.mtu != mtu:
            with _changing(f"set the MTU of {link.name} to {mtu}"):
                self._ipr.link("set", index=link.index, mtu=mtu)

    def ensure_mac(self, link: Link, mac: str) -> None:
        """The link's MAC is `mac`."""
        if link.mac != mac:
            with _changing(f"set the MAC of {link.name} to {mac}"):
                self._ipr.link("set", index=link.index, address=mac)

    def ensure_port(self, link: Link, bridge: Link) -> None:
        """The link is on the bridge."""
        if link.master != bridge.index:
            with _changing(f"put {link.name} on bridge {bridge.name}"):
                self._ipr.link("set", index=link.index, master=bridge.index)

    def ensure_up(self, link: Link) -> None:
        """The link is administratively up."""
        if not link.up:
            with _changing(f"set {link.name} up"):
                self._ipr.link("set", index=link.index, state="up")

    def ensure_address(self, link: Link, interface: IPv4Interface) -> None:
        """The link holds the address."""
        with _changing(f"give {interface} to {link.name}", harmless=errno.EEXIST):
            self._ipr.addr(
                "add",
                index=link.index,
                address=str(interface.ip),
                prefixlen=interface.network.prefixlen,
                broadcast=str(interface.network.broadcast_address),
            )


@contextmanager
def open_netlink() -> Iterator[Netlink]:
    """A socket in the caller's network namespace, closed at the end of the block. CannotAsk when none can be had."""
    try:
        ipr = IPRoute()
    except OSError as error:
        raise _asked(error, "open a netlink socket") from error
    try:
        yield Netlink(ipr)
    finally:
        ipr.close()


def _dumped(dump: Callable[[], list[T]], what: str) -> list[T]:
    """A dump that was not disturbed: the kernel marks one during which links came or went (NLM_F_DUMP_INTR)."""
    for _ in range(DUMP_TRIES):
        try:
            return dump()
        except NetlinkDumpInterrupted:
            continue
        except (NetlinkError, OSError) as error:
            raise _asked(error, what) from error
    raise CannotAsk(f"can't {what}: links changed during each of {DUMP_TRIES} looks; try again")


def _asked(error: NetlinkError | OSError, what: str) -> DoesNotFit | CannotAsk:
    """The error of a look-up that failed."""
    if _code_of(error) in _FORBIDDEN:
        return _forbidden(what)
    return CannotAsk(f"can't {what}: {error}; whether it is there is not known")


@contextmanager
def _changing(what: str, *, harmless: int | None = None) -> Iterator[None]:
    """Translates the errors of a change; `harmless` is the code which says that it is so already."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        code = _code_of(error)
        if code == harmless:
            return
        if code in _FORBIDDEN:
            raise _forbidden(what) from error
        if code in _MALFORMED:
            raise Refused(f"can't {what}: the kernel does not take the value ({error})") from error
        raise Retryable(f"can't {what}: {error}") from error


def _forbidden(what: str) -> DoesNotFit:
    return DoesNotFit(f"can't {what}: this process lacks CAP_NET_ADMIN; run the worker as root or grant it")


def _code_of(error: NetlinkError | OSError) -> int | None:
    code: int | None = error.code if isinstance(error, NetlinkError) else error.errno
    return code


def _link_of(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=_kind_of(message.get_attr("IFLA_LINKINFO")),
        alias=message.get_attr("IFLA_IFALIAS"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        master=message.get_attr("IFLA_MASTER"),
        up=bool(message["flags"] & IFF_UP),
    )


def _kind_of(info: Any) -> str | None:
    if info is None:
        return None
    kind: str = info.get_attr("IFLA_INFO_KIND")
    if kind == TUN:
        data = info.get_attr("IFLA_INFO_DATA")
        return TAP if data is not None and data.get_attr("IFLA_TUN_TYPE") == IFF_TAP else TUN
    return kind


def _address_of(message: Any) -> LinkAddress:
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return LinkAddress(index=message["index"], interface=IPv4Interface(f"{address}/{message['prefixlen']}"))
