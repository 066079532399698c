"""What TAPs that are links of their own (`routed`) need to be served by one server for their network. Rules as text: pure.

    ways      map    TAP -> gateway's address . port   where what the guest sends to 169.254.169.254 goes: its network's server
    servers   set    gateways' addresses               that serve
    served    set    TAP . gateway's address           by what links they do, and by no other

169.254.169.254 can't be told apart by networks where each TAP is a link; a gateway's address is its network's own, for no two
such networks of a host overlap. Routed networks are reached from elsewhere, so without the second rule the whole site could ask
the DNS server of a network's guests.
"""

from dataclasses import replace

from net.filters.chains import Chain, Entries, Listing, Unwanted, Wanted
from net.filters.host_services import METADATA_ADDRESS
from net.filters.states import INET_TABLE
from net.services.site import ON_TAPS_KINDS, TAPS_PORT
from taskvisor.model.plan import VifPlan

WAYS = Entries(table=INET_TABLE, name="ways", declared="map {} {{ type ifname : ipv4_addr . inet_service; }}")
SERVERS = Entries(table=INET_TABLE, name="servers", declared="set {} {{ type ipv4_addr; }}")
SERVED = Entries(table=INET_TABLE, name="served", declared="set {} {{ typeof iifname . ip daddr; }}")
CHAINS = (
    Chain(
        table=INET_TABLE,
        name="metadata",
        hook="type nat hook prerouting priority dstnat; policy accept",
        rules=(f"ip daddr {METADATA_ADDRESS} tcp dport 80 dnat ip to iifname map @ways",),
    ),
    Chain(
        table=INET_TABLE,
        name="served_by_taps",
        hook="type filter hook input priority -5; policy accept",
        rules=(
            # Not by fib: of several links that hold an address the kernel's table of local ones names the first.
            'iifname != "lo" ip daddr @servers iifname . ip daddr != @served'
            f" meta l4proto {{ tcp, udp }} th dport {{ 53, 67, {TAPS_PORT} }} drop",
        ),
    ),
)
SERVED_BY_TAPS = Wanted(chains=CHAINS, entries=(WAYS, SERVERS, SERVED))


def served_wanted_for(vif: VifPlan) -> Wanted:
    """The NIC's TAP leads to its network's server, which answers there; nothing for other kinds, or without DHCP."""
    if not vif.dhcp or vif.kind not in ON_TAPS_KINDS:
        return Wanted()
    ways = replace(WAYS, elements={vif.tap: f"{vif.gateway} . {TAPS_PORT}"})
    served = replace(SERVED, elements={f"{vif.tap} . {vif.gateway}": ""})
    return Wanted(chains=CHAINS, entries=(ways, replace(SERVERS, elements={vif.gateway: ""}), served))


def served_unwanted_for(vif: VifPlan, listing: Listing) -> Unwanted:
    """All that there is of the NIC's TAP, and of its network when it is the last."""
    others = {way.split(" . ")[0] for tap, way in listing.entries.get(WAYS.key, {}).items() if tap != vif.tap}
    own = frozenset({(*WAYS.key, vif.tap), (*SERVED.key, f"{vif.tap} . {vif.gateway}")})
    return Unwanted(keys=own if vif.gateway in others else own | {(*SERVERS.key, vif.gateway)})


def is_any_served(listing: Listing) -> bool:
    """Whether any TAP here leads to a server."""
    return bool(listing.entries.get(WAYS.key))
