"""The kernel's links and addresses, by rtnetlink (rtnetlink(7)). With its neighbours in this folder, the only user of pyroute2.

Knows no owner and no policy. A socket belongs to the process and the network namespace that opened it, so one is
opened for each piece of work (0.4 ms) and closed with it. /sys/class/net is never read: it shows the namespace that
sysfs was mounted in, not the caller's.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from net.links.link import BRIDGE, IFB, MACVTAP, PAIR, TBF, VLAN, VXLAN, Link, LinkAddress, LinkAddress6, PortSettings
from net.links.link_messages import address6_of, address_of, held_in, link_of
from net.links.refusals import asked, changing, dumped, looking
from net.links.token_bucket import Bucket, Parameters, parameters_for, parse_parameters
from taskvisor.model.errors import DoesNotFit

VXLAN_PORT = 4789  # RFC 7348 §5; the kernel's default is an older one
VXLAN_TTL = 64
ROUTE_PROTOCOL = 84
"""Whose our routes are (`ip route show proto 84`); no routing daemon uses it. See /etc/iproute2/rt_protos."""
AF_INET = 2
AF_INET6 = 10
RT_SCOPE_LINK = 253
BUCKET_HANDLE = 0x54560000  # major:minor 5456:0; proves that the bucket on a link is of our making
TC_H_ROOT = 0xFFFFFFFF  # linux/pkt_sched.h
IFA_F_NODAD = 0x02  # linux/if_addr.h
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH)


class Netlink:
    """One socket. Changes name a link by its index, so that a stranger that took the name meanwhile is never hit.

    Every method: DoesNotFit when this process may not (CAP_NET_ADMIN), CannotAsk when a look-up failed, Refused when
    the kernel rejects the value, Retryable for all else, a link that vanished under a change included.
    """

    def __init__(self, ipr: IPRoute) -> None:
        self._ipr = ipr

    def read_link(self, name: str) -> Link | None:
        """The link; None when the kernel says that there is none of that name."""
        with looking(f"read link {name}"):
            try:
                return link_of(self._ipr.link("get", ifname=name)[0])
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise

    def list_links(self) -> tuple[Link, ...]:
        """Every link of this namespace."""
        return tuple(map(link_of, dumped(lambda: list(self._ipr.get_links()), "list links")))

    def list_ports(self, bridge: Link) -> tuple[Link, ...]:
        """The links that are on the bridge, whoever put them there. Older kernels don't choose, so it is done here too."""
        found = dumped(lambda: list(self._ipr.get_links(master=bridge.index)), f"list the ports of {bridge.name}")
        return tuple(link for link in map(link_of, found) if link.master == bridge.index)

    def list_addresses(self) -> tuple[LinkAddress, ...]:
        """Every IPv4 address of this namespace."""
        return tuple(map(address_of, dumped(lambda: list(self._ipr.get_addr(family=AF_INET)), "list addresses")))

    def list_addresses_of(self, link: Link) -> tuple[IPv4Interface, ...]:
        """The IPv4 addresses of a link."""
        return tuple(held.interface for held in self.list_addresses() if held.index == link.index)

    def ensure_bridge_exists(self, name: str, *, mac: str) -> None:
        """A link of that name exists: a new bridge without spanning tree or forward delay, or what was there before.

        Spanning tree would hold back a port's frames for 30 s, longer than a guest's DHCP client waits.
        """
        with changing(f"make bridge {name}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=BRIDGE, address=mac, br_stp_state=0, br_forward_delay=0)

    def ensure_vlan_exists(self, name: str, *, mac: str, lower: Link, segment: int) -> None:
        """A link of that name exists: a new VLAN (IEEE 802.1Q) of `lower`, or what was there before."""
        with changing(f"make VLAN link {name} on {lower.name}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=VLAN, link=lower.index, vlan_id=segment, address=mac)

    def ensure_vxlan_exists(self, name: str, *, mac: str, vni: int, local: str) -> None:
        """A link of that name exists: a new tunnel that learns nothing by itself (RFC 7348), or what was there before.

        Also when another link of this host has that VNI: then there is none of that name.
        """
        end = {"vxlan_local6" if ":" in local else "vxlan_local": local}
        with changing(f"make tunnel {name}", harmless=errno.EEXIST):
            self._ipr.link(
                "add",
                ifname=name,
                kind=VXLAN,
                address=mac,
                vxlan_id=vni,
                vxlan_port=VXLAN_PORT,
                vxlan_learning=0,
                vxlan_ttl=VXLAN_TTL,
                **end,
            )

    def ensure_macvtap_exists(self, name: str, *, mac: str, lower: Link) -> None:
        """A link of that name exists: a new macvtap on `lower`, whose guests reach each other, or what was there before."""
        with changing(f"make macvtap {name} on {lower.name}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=MACVTAP, link=lower.index, macvtap_mode="bridge", address=mac)

    def ensure_link_absent(self, link: Link) -> None:
        """The link is gone."""
        with changing(f"remove link {link.name}", harmless=errno.ENODEV):
            self._ipr.link("del", index=link.index)

    def ensure_alias(self, link: Link, alias: str) -> None:
        """The link bears the alias."""
        if link.alias != alias:
            with changing(f"set the alias of {link.name}"):
                self._ipr.link("set", index=link.index, ifalias=alias)

    def ensure_mtu(self, link: Link, mtu: int) -> None:
        """The link's MTU is `mtu` bytes."""
        if link.mtu != mtu:
            with changing(f"set the MTU of {link.name} to {mtu}"):
                self._ipr.link("set", index=link.index, mtu=mtu)

    def ensure_mac(self, link: Link, mac: str) -> None:
        """The link's MAC is `mac`."""
        if link.mac != mac:
            with changing(f"set the MAC of {link.name} to {mac}"):
                self._ipr.link("set", index=link.index, address=mac)

    def ensure_port(self, link: Link, bridge: Link) -> None:
        """The link is on the bridge."""
        if link.master != bridge.index:
            with changing(f"put {link.name} on bridge {bridge.name}"):
                self._ipr.link("set", index=link.index, master=bridge.index)

    def ensure_no_port(self, link: Link) -> None:
        """The link is on no bridge."""
        if link.master is not None:
            with changing(f"take {link.name} off its bridge", harmless=errno.ENODEV):
                self._ipr.link("set", index=link.index, master=0)

    def ensure_port_settings(self, link: Link, settings: PortSettings) -> None:
        """The bridge that the link is on treats it so."""
        with changing(f"set how its bridge treats {link.name}"):
            self._ipr.brport(
                "set", index=link.index, learning=int(settings.learning), neigh_suppress=int(settings.neigh_suppress)
            )

    def list_holders(self, address: str) -> tuple[int, ...]:
        """The indices of the links that hold the address (v4 or v6), whatever its prefix."""
        family = AF_INET6 if ":" in address else AF_INET
        found = dumped(lambda: list(self._ipr.get_addr(family=family)), "list addresses")
        return tuple(message["index"] for message in found if held_in(message) == address)

    def list_global_addresses_of(self, link: Link) -> tuple[str, ...]:
        """The addresses of a link, v4 and v6, but for the link-local ones that IPv6 gives to every link that is up."""
        found = dumped(lambda: list(self._ipr.get_addr(index=link.index)), f"list the addresses of {link.name}")
        held = (f"{held_in(message)}/{message['prefixlen']}" for message in found if message["index"] == link.index)
        return tuple(address for address in held if not ip_interface(address).is_link_local or ":" not in address)

    def ensure_host_address(self, link: Link, address: str) -> None:
        """The link holds that one address (v4 or v6), and no network with it."""
        family, length = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
        with changing(f"give {address} to {link.name}", harmless=errno.EEXIST):
            self._ipr.addr("add", index=link.index, family=family, address=address, prefixlen=length)

    def ensure_host_route(self, link: Link, address: str) -> None:
        """The way to that one address (v4 or v6) is the link; a way to it by another link of ours is replaced."""
        with changing(f"route {address} to {link.name}"):
            self._ipr.route("replace", oif=link.index, proto=ROUTE_PROTOCOL, **_host_route_to(address))

    def ensure_up(self, link: Link) -> None:
        """The link is administratively up."""
        if not link.up:
            with changing(f"set {link.name} up"):
                self._ipr.link("set", index=link.index, state="up")

    def ensure_address(self, link: Link, interface: IPv4Interface) -> None:
        """The link holds the address."""
        with changing(f"give {interface} to {link.name}", harmless=errno.EEXIST):
            self._ipr.addr(
                "add",
                index=link.index,
                address=str(interface.ip),
                prefixlen=interface.network.prefixlen,
                broadcast=str(interface.network.broadcast_address),
            )

    def ensure_labelled_address(self, link: Link, interface: IPv4Interface, *, label: str) -> None:
        """The link holds the address, under a label (`ip address … label`): programs that go by a link's name pass it over."""
        with changing(f"give {interface} to {link.name}", harmless=errno.EEXIST):
            self._ipr.addr(
                "add", index=link.index, address=str(interface.ip), prefixlen=interface.network.prefixlen, label=label
            )

    def ensure_address_absent(self, link: Link, interface: IPv4Interface) -> None:
        """The link does not hold the address."""
        with changing(f"take {interface} from {link.name}", harmless=errno.EADDRNOTAVAIL):
            self._ipr.addr("del", index=link.index, address=str(interface.ip), prefixlen=interface.network.prefixlen)

    def read_link_towards(self, address: str) -> Link | None:
        """The link by which a packet for the address would leave; None when there is no route to it."""
        with looking(f"read the route to {address}"):
            try:
                route = self._ipr.route("get", dst=address)[0]
                return link_of(self._ipr.link("get", index=route.get_attr("RTA_OIF"))[0])
            except NetlinkError as error:
                if error.code in _UNREACHABLE:
                    return None
                raise

    def ensure_ifb_exists(self, name: str, *, mac: str) -> None:
        """A link of that name exists: a new intermediate functional block (kernel: drivers/net/ifb.c), or what was there."""
        with changing(f"make {name}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=IFB, address=mac)

    def ensure_bucket(self, link: Link, bucket: Bucket) -> None:
        """What leaves by the link is limited so. A bucket of ours is changed as it stands: what waits in it is not lost.

        DoesNotFit also when this kernel has no tbf.
        """
        wanted = parameters_for(bucket)
        if self._read_bucket(link) == wanted:
            return
        options = {"attrs": [("TCA_TBF_PARMS", wanted)]}
        with changing(f"limit the rate of {link.name}"):
            # As raw attributes: pyroute2's own words for tbf know no peak rate.
            attributes = [("TCA_KIND", TBF), ("TCA_OPTIONS", options)]
            try:
                self._ipr.tc("replace", index=link.index, handle=BUCKET_HANDLE, parent=TC_H_ROOT, attrs=attributes)
            except NetlinkError as error:
                if error.code != errno.ENOENT:
                    raise
                raise DoesNotFit(
                    f"can't limit the rate of {link.name}: this kernel has no tbf; load sch_tbf, or use another host"
                ) from error

    def ensure_no_bucket(self, link: Link) -> None:
        """What leaves by the link is not limited by a bucket of ours; another's queueing discipline is left alone."""
        if link.discipline == TBF and self._read_bucket(link) is not None:
            with changing(f"no longer limit the rate of {link.name}", harmless=errno.ENOENT):
                self._ipr.tc("del", index=link.index, handle=BUCKET_HANDLE, parent=TC_H_ROOT)

    def _read_bucket(self, link: Link) -> Parameters | None:
        found = dumped(lambda: list(self._ipr.get_qdiscs(index=link.index)), f"list the queues of {link.name}")
        for message in found:
            ours = message["handle"] == BUCKET_HANDLE and message.get_attr("TCA_KIND") == TBF
            if ours and message["index"] == link.index:
                return parse_parameters(message.get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS"))
        return None

    def list_addresses6(self) -> tuple[LinkAddress6, ...]:
        """Every IPv6 address of this namespace, the link-local ones too."""
        found = dumped(lambda: list(self._ipr.get_addr(family=AF_INET6)), "list IPv6 addresses")
        return tuple(map(address6_of, found))

    def ensure_address6(self, link: Link, interface: IPv6Interface) -> None:
        """The link holds the address, usable at once: no duplicate is looked for."""
        with changing(f"give {interface} to {link.name}", harmless=errno.EEXIST):
            self._ipr.addr(
                "add",
                family=AF_INET6,
                index=link.index,
                address=str(interface.ip),
                prefixlen=interface.network.prefixlen,
                flags=IFA_F_NODAD,
            )

    def ensure_pair_exists(self, name: str, *, mac: str, peer: str, peer_mac: str) -> None:
        """A link of that name exists: an end of a new pair (veth(4)) whose other end is `peer`, or what was there before."""
        with changing(f"make the pair {name} and {peer}", harmless=errno.EEXIST):
            self._ipr.link("add", ifname=name, kind=PAIR, address=mac, peer={"ifname": peer, "address": peer_mac})


@contextmanager
def open_netlink() -> Iterator[Netlink]:
    """A socket in the caller's network namespace, closed at the end of the block. CannotAsk when none can be had."""
    try:
        ipr = IPRoute()
    except OSError as error:
        raise asked(error, "open a netlink socket") from error
    try:
        yield Netlink(ipr)
    finally:
        ipr.close()


def _host_route_to(address: str) -> dict[str, Any]:
    if ":" in address:
        return {"family": AF_INET6, "dst": address, "dst_len": 128}
    return {"family": AF_INET, "dst": address, "dst_len": 32, "scope": RT_SCOPE_LINK}
