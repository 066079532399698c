"""Networks and NICs for tests, by number."""

from net.plan import vif_plan_for
from taskvisor.model.ids import HostName, OperationId, instance_id_for, mac_for, network_id_for, port_id_for
from taskvisor.model.network import NO_LINKS, HostLinks, Member, Network, NetworkKind, Port
from taskvisor.model.plan import VifPlan


def network(
    number: int = 9, *, nat: bool = True, dhcp: bool = True, dns: tuple[str, ...] = (), mtu: int = 1450
) -> Network:
    """Network 10.<number>.0.0/24."""
    name = f"net-{number}"
    return Network(
        id=network_id_for(name),
        name=name,
        kind=NetworkKind.NAT,
        cidr=f"10.{number}.0.0/24",
        gateway=f"10.{number}.0.1",
        mtu=mtu,
        nat=nat,
        dhcp=dhcp,
        dns=dns,
    )


def port(number: int, on: Network) -> Port:
    """The only port of guest `number`; its address ends in 10 + number."""
    instance_id = instance_id_for(OperationId(f"{on.name}/build-{number}"))
    port_id = port_id_for(instance_id, 0)
    address = on.cidr.replace(".0/24", f".{10 + number}")
    return Port(
        id=port_id,
        instance_id=instance_id,
        network_id=on.id,
        network=on.name,
        index=0,
        mac=mac_for(port_id),
        address=address,
    )


def vif(number: int = 0, on: Network | None = None, links: HostLinks = NO_LINKS) -> VifPlan:
    """The NIC of guest `number`, called web-<number>, on the host that is connected by `links`."""
    on = on or network()
    return vif_plan_for(port(number, on), on, hostname=f"web-{number}", links=links)


def member(number: int, on: Network, host: str) -> Member:
    """The port of guest `number`, as others know it."""
    own = port(number, on)
    return Member(port_id=own.id, host=HostName(host), mac=own.mac, addresses=own.addresses)
