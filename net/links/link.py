"""What a link is, as the kernel tells it: words and values. Knows neither how it is asked nor what for."""

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

TAP = "tap"
TUN = "tun"
BRIDGE = "bridge"
VLAN = "vlan"
VXLAN = "vxlan"
MACVTAP = "macvtap"
IFB = "ifb"
PAIR = "veth"
TBF = "tbf"  # token bucket filter, a queueing discipline


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
    lower: int | None = (
        None  # the index of the link that it stands on (of a VLAN or a macvtap), or of a pair's other end
    )
    segment: int | None = None  # of a VLAN its id, of a tunnel its VNI
    tunnel_address: str | None = None  # of a tunnel: this host's end
    carrier: bool = True  # of a TAP: whether a process has it open
    multi_queue: bool = False  # of a TAP: whether it was made for several queues
    discipline: str = ""  # how what leaves by it is queued (`qdisc`): TBF when its rate is limited


@dataclass(frozen=True, kw_only=True)
class LinkAddress:
    """An IPv4 address and the link that holds it."""

    index: int
    interface: IPv4Interface
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class LinkAddress6:
    """An IPv6 address and the link that holds it."""

    index: int
    interface: IPv6Interface


@dataclass(frozen=True, kw_only=True)
class PortSettings:
    """How a bridge treats one of its ports (bridge(8), `bridge link set`)."""

    learning: bool
    neigh_suppress: bool
