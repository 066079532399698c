"""What DHCP tells a guest besides its address: dnsmasq's arguments, by RFC 2132 and RFC 3442. Pure.

A client that is told classless routes has to ignore the router option (RFC 3442), so the default route is in both.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from net.services.site import METADATA_ADDRESS, ON_TAPS_KINDS, Site
from taskvisor.model.plan import VifPlan

CLASSLESS_ROUTES = 121
ON_LINK = "0.0.0.0"  # noqa: S104 - no socket: RFC 3442's word for a network that is reached without a router
DEFAULT = "0.0.0.0/0"
ROUTES_LIMIT = 24
"""An option has 255 bytes and a route takes up to nine; the services' own and the default one are among them."""


def option_arguments_for(vif: VifPlan, site: Site) -> tuple[str, ...]:
    """Router, routes, MTU and time servers. Of `routes`, `ntp` and `dns` DHCPv4 tells those that are IPv4."""
    return (
        f"--dhcp-option=option:router{''.join(f',{router}' for router in _routers(vif, site))}",
        f"--dhcp-option={CLASSLESS_ROUTES},{','.join(routes_for(vif, site))}",
        f"--dhcp-option-force=option:mtu,{vif.mtu}",  # some clients use it without asking for it
        *_listed("option:ntp-server", of_family(vif.ntp, 4)),
    )


def dns_arguments_for(vif: VifPlan, site: Site) -> tuple[str, ...]:
    """A network that names servers has its guests ask those, and dnsmasq serves none. Otherwise dnsmasq does, on the gateway's
    address: guests by their names, all else by the host's own resolvers (by none on a network that leads nowhere). On a service
    link it never does: the host has no route to those guests.
    """
    if vif.dns or site.on_link:
        return ("--port=0", *_listed("option:dns-server", of_family(vif.dns, 4)))
    forwarding = () if _leads_out(vif) else ("--no-resolv",)
    return ("--domain-needed", "--bogus-priv", *forwarding)


def routes_for(vif: VifPlan, site: Site) -> Iterator[str]:
    """The routes of option 121, each as `destination,router`."""
    if site.on_link:
        yield f"{site.server}/32,{ON_LINK}"  # where a guest renews its lease
    yield f"{METADATA_ADDRESS}/32,{ON_LINK if site.on_link else vif.gateway}"
    for route in vif.routes:
        if ip_network(route.destination).version == 4:
            yield f"{route.destination},{route.via}"
    for router in _routers(vif, site):
        yield f"{DEFAULT},{router}"


def of_family(addresses: tuple[str, ...], version: int) -> tuple[str, ...]:
    """Those of the addresses that are of that IP version."""
    return tuple(address for address in addresses if ip_address(address).version == version)


def _routers(vif: VifPlan, site: Site) -> tuple[str, ...]:
    return (vif.gateway,) if _leads_out(vif) or site.on_link else ()


def _leads_out(vif: VifPlan) -> bool:
    """A network whose gateway is ours leads nowhere without NAT, but for one that is routed."""
    return vif.nat or vif.kind in ON_TAPS_KINDS


def _listed(option: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    return (f"--dhcp-option={option},{','.join(addresses)}",) if addresses else ()
