"""Networks and NICs for tests, by number."""

from dataclasses import replace
from ipaddress import IPv6Network

from net.plan import vif_plan_for
from taskvisor.model.ids import HostName, OperationId, instance_id_for, mac_for, network_id_for, port_id_for
from taskvisor.model.network import NO_LINKS, PHYSICAL_KINDS, HostLinks, Ipv6Mode, Member, Network, NetworkKind, Port
from taskvisor.model.plan import VifPlan


def network(
    number: int = 9,
    *,
    nat: bool = True,
    dhcp: bool = True,
    dns: tuple[str, ...] = (),
    mtu: int = 1450,
    ipv6: Ipv6Mode | None = None,
    kind: NetworkKind = NetworkKind.NAT,
) -> Network:
    """Network 10.<number>.0.0/24, with IPv6 fd00:<number>::/64 too."""
    name = f"net-{number}"
    return Network(
        id=network_id_for(name),
        name=name,
        kind=kind,
        cidr=f"10.{number}.0.0/24",
        gateway=f"10.{number}.0.1",
        mtu=mtu,
        nat=nat,
        dhcp=dhcp,
        dns=dns,
        cidr6=f"fd00:{number}::/64" if ipv6 else None,
        gateway6=f"fd00:{number}::1" if ipv6 else None,
        ipv6_mode=ipv6 or Ipv6Mode.SLAAC,
        physical="lan" if kind in PHYSICAL_KINDS else None,
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
        address6=None if on.cidr6 is None else _address6(mac_for(port_id), number, on),
    )


def _address6(mac: str, number: int, on: Network) -> str:
    """With SLAAC what follows from the MAC (RFC 4291 appendix A), else what ends in 10 + number."""
    cidr = IPv6Network(on.cidr6 or "")
    if on.ipv6_mode is Ipv6Mode.DHCPV6:
        return str(cidr[10 + number])
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(cidr[int.from_bytes(interface_id, "big")])


def vif(number: int = 0, on: Network | None = None, links: HostLinks = NO_LINKS) -> VifPlan:
    """The NIC of guest `number`, called web-<number>, on the host that is connected by `links`."""
    on = on or network()
    return vif_plan_for(port(number, on), on, hostname=f"web-{number}", links=links)


def open_vif(number: int = 0, on: Network | None = None, links: HostLinks = NO_LINKS) -> VifPlan:
    """The same of a port that nothing filters: for tests of who reaches whom."""
    on = on or network()
    unfiltered = replace(port(number, on), anti_spoofing=False)
    return vif_plan_for(unfiltered, on, hostname=f"web-{number}", links=links)


def member(number: int, on: Network, host: str) -> Member:
    """The port of guest `number`, as others know it."""
    own = port(number, on)
    return Member(port_id=own.id, host=HostName(host), mac=own.mac, addresses=own.addresses)
