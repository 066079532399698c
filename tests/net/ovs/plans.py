"""NICs on an Open vSwitch bridge, by number."""

from dataclasses import replace

from net.plan import vif_plan_for
from taskvisor.model.network import Network, NetworkKind, Qos
from taskvisor.model.plan import VifPlan
from tests.net.plans import network, port

BRIDGE = "br-int"


def switched(number: int = 9, *, tag: int | None = 100, bridge: str = BRIDGE) -> Network:
    """Network 10.<number>.0.0/24 on the operator's bridge."""
    return replace(network(number), kind=NetworkKind.OVS, bridge=bridge, segment=tag)


def nic(number: int = 0, on: Network | None = None, *, qos: Qos | None = None) -> VifPlan:
    """The NIC of guest `number`."""
    on = on or switched()
    return vif_plan_for(replace(port(number, on), qos=qos), on, hostname=f"web-{number}")
