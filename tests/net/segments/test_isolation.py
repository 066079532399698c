"""Two networks with the very same addresses and MACs, side by side on two hosts: what is sent on one arrives on no other.

Where our bridge holds the gateway two networks can't overlap on a host; `flat`, `vlan` and `existing` ones can have the same
subnet (docs/networks.md), of which `vlan` can't be seen on a kernel without 8021q. Over tunnels frames bear the same MACs, and
speak of the addresses of one of the two in both.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from net.plan import vif_plan_for
from taskvisor.model.ids import HostName, SecurityGroupId
from taskvisor.model.network import (
    Direction,
    HostLinks,
    IpFamily,
    Network,
    NetworkKind,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.plan import VifPlan
from tests.fixtures.namespaces import entered_namespace
from tests.net.lan import LanHost, open_lan
from tests.net.plans import member, network, port
from tests.net.wired import Wired, arrivals, wired

pytestmark = pytest.mark.real

SENT = 20
NOBODY = "10.9.0.200"
CABLE = "eth1"
OPERATORS = "br-red"
ALL = SecurityGroupId("11111111-0000-4000-8000-000000000001")
RULES = tuple(SecurityRule(direction=direction, family=IpFamily.V4) for direction in Direction)
Hosts = tuple[LanHost, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two networks that can't be told apart by anything that a guest sends."""

    blue: Network
    red: Network

    def nic(self, on: Network, number: int, host: LanHost) -> VifPlan:
        """Guest `number` of the network; its MAC and its address are those of guest `number` of the other one."""
        links = HostLinks(uplinks={"lan": "eth0", "cable": CABLE}, tunnel_address=host.address)
        twin, own = port(number, self.blue), port(number, on)
        if on.cidr == self.blue.cidr:
            own = replace(own, mac=twin.mac, address=twin.address, security_groups=(ALL,))
        else:  # what it sends is of the other network's subnet, so nothing may filter it
            own = replace(own, mac=twin.mac, anti_spoofing=False)
        return vif_plan_for(own, on, hostname=f"web-{number}", links=links)

    def around(self, on: Network, hosts: Hosts) -> Surroundings:
        """Guest `number` is on host `number`."""
        members = tuple(
            replace(member(number, on, f"h{number}"), mac=port(number, self.blue).mac, security_groups=(ALL,))
            for number in range(len(hosts))
        )
        return Surroundings(
            network=on,
            members=members,
            tunnels={HostName(f"h{number}"): host.address for number, host in enumerate(hosts)},
            groups=(SecurityGroup(id=ALL, name="all", rules=RULES),),
        )


FLAT = replace(network(9, dhcp=False), kind=NetworkKind.FLAT, physical="lan")
CABLED = replace(FLAT, id=network(8).id, name="net-8", physical="cable")
EXISTING = replace(CABLED, kind=NetworkKind.EXISTING, physical=None, bridge=OPERATORS)
VXLAN = replace(network(9, dhcp=False), kind=NetworkKind.VXLAN, segment=100)
PAIRS = {
    "flat and flat": Pair(blue=FLAT, red=CABLED),
    "flat and existing": Pair(blue=FLAT, red=EXISTING),
    "vxlan and vxlan": Pair(blue=VXLAN, red=replace(network(8, dhcp=False), kind=NetworkKind.VXLAN, segment=101)),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return PAIRS[request.param]


@pytest.fixture
def hosts(tmp_state_dir: Path, pair: Pair) -> Iterator[Hosts]:
    """Two hosts, joined by the switch at eth0, and by a cable of their own at eth1."""
    tmp_state_dir.chmod(0o755)
    with open_lan(tmp_state_dir, 2, with_addresses=pair.blue.kind is NetworkKind.VXLAN) as (one, two):
        with IPRoute(netns=one.namespace) as netlink:
            netlink.link("add", ifname=CABLE, kind="veth", peer={"ifname": CABLE, "net_ns_fd": two.namespace})
        for host in (one, two):
            host.ask("ip", "link", "set", CABLE, "up")
            if pair.red.kind is NetworkKind.EXISTING:
                host.ask("ip", "link", "add", OPERATORS, "mtu", "1450", "type", "bridge")
                host.ask("ip", "link", "set", CABLE, "master", OPERATORS)
                host.ask("ip", "link", "set", OPERATORS, "up")
        yield one, two
        for host in (one, two):
            if pair.red.kind is NetworkKind.EXISTING:
                host.ask("ip", "link", "del", OPERATORS)
        one.ask("ip", "link", "del", CABLE)


@contextmanager
def guests(hosts: Hosts, pair: Pair) -> Iterator[dict[tuple[str, int], Wired]]:
    """Both guests of both networks, by network and host."""
    with ExitStack() as stack:
        nics = {
            (on.name, number): pair.nic(on, number, host)
            for on in (pair.blue, pair.red)
            for number, host in enumerate(hosts)
        }
        for (_, number), nic in nics.items():
            hosts[number].plug(nic)
            stack.callback(hosts[number].unplug, nic)
        for on in (pair.blue, pair.red):
            for host in hosts:
                host.tell(pair.around(on, hosts))
        found = {}
        for key, nic in nics.items():
            with entered_namespace(hosts[key[1]].namespace):
                (found[key],) = stack.enter_context(wired(nic))
        yield found


def frames_from(sender: VifPlan, receiver: VifPlan, words: str) -> list[Packet]:
    """To the peer, to everybody, and asked of everybody (for an address that no bridge knows, and could answer for)."""
    said = IP(src=sender.address, dst=receiver.address) / UDP(sport=7, dport=7)
    asked = ARP(op=1, hwsrc=sender.mac, psrc=sender.address, pdst=NOBODY)
    return [
        Ether(src=sender.mac, dst=receiver.mac) / said / Raw(f"{words} unicast".encode()),
        Ether(src=sender.mac, dst="ff:ff:ff:ff:ff:ff") / said / Raw(f"{words} broadcast".encode()),
        Ether(src=sender.mac, dst="ff:ff:ff:ff:ff:ff") / asked / Raw(f"{words} asked".encode()),
    ]


@pytest.mark.parametrize("speaker", ["blue", "red"])
def test_what_is_sent_on_one_network_arrives_there_and_on_the_other_never(
    hosts: Hosts, pair: Pair, speaker: str
) -> None:
    own, other = (pair.blue, pair.red) if speaker == "blue" else (pair.red, pair.blue)
    with guests(hosts, pair) as inside:
        sender, receiver = inside[own.name, 0], inside[own.name, 1]
        apart = {place: inside[other.name, place] for place in (0, 1)}
        of_blue = pair.nic(pair.blue, 0, hosts[0]), pair.nic(pair.blue, 1, hosts[1])
        markers = [f"here {how}".encode() for how in ("unicast", "broadcast", "asked")]
        heard, overheard = receiver.listen(), {place: guest.listen() for place, guest in apart.items()}
        with heard:
            for _ in range(SENT):
                for frame in frames_from(*of_blue, "here"):
                    sender.send(bytes(frame))
            sender.send(bytes(last_from(*of_blue, "last of the speaker")))
            arrived = arrivals(heard, markers, last=b"last of the speaker")
        # What came the same way afterwards, on the other network, shows that what was sent there would have been heard.
        apart[0].send(bytes(last_from(*of_blue, "last of the other")))
        apart[1].send(bytes(last_from(*of_blue[::-1], "last of the other")))
        strayed = {place: arrivals(there, markers, last=b"last of the other") for place, there in overheard.items()}
        for there in overheard.values():
            there.close()
    print(f"sent {SENT} each; arrived {arrived}; on the other network {strayed}")
    assert arrived == dict.fromkeys(markers, SENT)
    assert strayed == dict.fromkeys((0, 1), dict.fromkeys(markers, 0))


def last_from(sender: VifPlan, receiver: VifPlan, words: str) -> Packet:
    said = IP(src=sender.address, dst=receiver.address) / UDP(sport=9, dport=9) / Raw(words.encode())
    return Ether(src=sender.mac, dst=receiver.mac) / said
