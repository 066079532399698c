"""Filtered guests of one security group, whose members may reach each other, on hosts that are joined by tunnels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from net.plan import vif_plan_for
from taskvisor.model.ids import HostName, SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, Network, SecurityGroup, SecurityRule, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net.lan import LanHost
from tests.net.plans import member, port

PEERS = SecurityGroupId("11111111-0000-4000-8000-000000000001")
RULES = (
    *(SecurityRule(direction=Direction.EGRESS, family=family) for family in IpFamily),
    *(SecurityRule(direction=Direction.INGRESS, family=family, remote_group=PEERS) for family in IpFamily),
)


def peer_vif(number: int, on: Network, host: LanHost) -> VifPlan:
    """The NIC of guest `number`, called web-<number>, on that host."""
    grouped = replace(port(number, on), security_groups=(PEERS,))
    return vif_plan_for(grouped, on, hostname=f"web-{number}", links=host.links)


def peers_around(lan: Sequence[LanHost], on: Network, places: Mapping[int, int]) -> Surroundings:
    """What hosts are told when guest `number` is on host `places[number]`."""
    members = tuple(replace(member(n, on, f"h{host}"), security_groups=(PEERS,)) for n, host in places.items())
    return Surroundings(
        network=on,
        members=members,
        tunnels={HostName(f"h{number}"): host.address for number, host in enumerate(lan)},
        groups=(SecurityGroup(id=PEERS, name="peers", rules=RULES),),
        group_addresses={PEERS: tuple(address for one in members for address in one.addresses)},
    )
