"""Whether a host is connected to what the guest's networks need."""

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.model.network import PHYSICAL_KINDS, NetworkKind
from taskvisor.model.records import Host


def is_connected(ask: Ask) -> Judge | None:
    """What the networks need that the host was not told of; what it lacks besides (a bridge, an MTU) it says when asked."""
    physical = [network for network in ask.networks if network.kind in PHYSICAL_KINDS]
    tunnels = [network for network in ask.networks if network.kind is NetworkKind.VXLAN]
    if not physical and not tunnels:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None:
            return None
        lacking = [network for network in physical if network.physical not in host.inventory.physical_networks]
        reasons = [
            f"it has no interface on physical network {network.physical}, which network {network.name} is on"
            for network in lacking
        ]
        remedies = [f"{network.physical}=INTERFACE in its TASKVISOR_PHYSICAL_NETWORKS" for network in lacking]
        if tunnels and host.inventory.tunnel_address is None:
            reasons += [f"it has no tunnel address, which network {network.name} needs" for network in tunnels]
            remedies.append("its TASKVISOR_TUNNEL_ADDRESS")
        if not reasons:
            return None
        reason, remedy = "; ".join(dict.fromkeys(reasons)), "set " + ", ".join(dict.fromkeys(remedies))
        return Refusal(reason=reason, remedy=remedy, distance=2)

    return judge
