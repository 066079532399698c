"""Links and addresses from the kernel's messages, as pyroute2 reads them. Pure.

Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.
"""

from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from net.links.link import TAP, TUN, Link, LinkAddress, LinkAddress6

IFF_UP = 0x1  # linux/if.h
IFF_TAP = 0x2  # linux/if_tun.h; the kernel gives both TAP and TUN the kind "tun"


def link_of(message: Any) -> Link:
    """What an RTM_NEWLINK says."""
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=_kind_of(info),
        alias=message.get_attr("IFLA_IFALIAS"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        master=message.get_attr("IFLA_MASTER"),
        up=bool(message["flags"] & IFF_UP),
        lower=message.get_attr("IFLA_LINK"),
        segment=_first_of(info, "IFLA_VLAN_ID", "IFLA_VXLAN_ID"),
        tunnel_address=_first_of(info, "IFLA_VXLAN_LOCAL", "IFLA_VXLAN_LOCAL6"),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        multi_queue=_is_multi_queue(info),
        discipline=message.get_attr("IFLA_QDISC") or "",
    )


def address_of(message: Any) -> LinkAddress:
    """What an RTM_NEWADDR of IPv4 says."""
    interface = IPv4Interface(f"{held_in(message)}/{message['prefixlen']}")
    return LinkAddress(index=message["index"], interface=interface, label=message.get_attr("IFA_LABEL") or "")


def address6_of(message: Any) -> LinkAddress6:
    """What an RTM_NEWADDR of IPv6 says."""
    interface = IPv6Interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")
    return LinkAddress6(index=message["index"], interface=interface)


def held_in(message: Any) -> str:
    """The address that the link holds; of one with a peer, IFA_ADDRESS is the peer's."""
    held: str = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return held


def _kind_of(info: Any) -> str | None:
    if info is None:
        return None
    kind: str = info.get_attr("IFLA_INFO_KIND")
    if kind == TUN:
        data = info.get_attr("IFLA_INFO_DATA")
        return TAP if data is not None and data.get_attr("IFLA_TUN_TYPE") == IFF_TAP else TUN
    return kind


def _first_of(info: Any, *names: str) -> Any:
    """The first of these attributes that the link's own kind has; None when it has none of them."""
    data = info.get_attr("IFLA_INFO_DATA") if info is not None else None
    if data is None or not hasattr(data, "get_attr"):
        return None
    return next((value for name in names if (value := data.get_attr(name)) is not None), None)


def _is_multi_queue(info: Any) -> bool:
    data = info.get_attr("IFLA_INFO_DATA") if info is not None and info.get_attr("IFLA_INFO_KIND") == TUN else None
    return data is not None and bool(data.get_attr("IFLA_TUN_MULTI_QUEUE"))
