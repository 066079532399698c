"""What the filters of this host's ports are to be, given what is there: pure. Composes ports and groups.

A group's chains and sets are here as long as a port's chains lead to them; the tables, as long as there is a port.
"""

from collections.abc import Collection

from net.filters.chains import Listing, Unwanted, Wanted
from net.filters.floating import hairpin_of_bridge_in, outer_in
from net.filters.group_rules import CHAIN_PREFIXES, SET_PREFIXES, group_for
from net.filters.port_rules import FILTERED, KINDS, PortRules, port_for, unknown_groups_for
from net.filters.states import BRIDGE_TABLE, GATEWAYS, INET_TABLE, ZONES
from net.filters.tap_services import is_any_served
from taskvisor.model.network import Surroundings

TABLES = (BRIDGE_TABLE, INET_TABLE)


def port_wanted_for(port: PortRules, listing: Listing) -> Wanted:
    """The port's filters. Groups that this host was told of before keep their rules; of others it knows none."""
    unknown = (chain for chain in unknown_groups_for(port) if chain.key not in listing.chains)
    return Wanted(chains=tuple(unknown)) + port_for(port)


def port_unwanted_for(tap: str, listing: Listing) -> Unwanted:
    """All that there is of the port, and of groups that no other port is in."""
    own = frozenset((table, f"{kind}_{tap}") for table in TABLES for kind in KINDS)
    keys = {(table, f"{kind}_port", tap) for table in TABLES for kind in KINDS}
    keys |= {(table, FILTERED.name, tap) for table in TABLES}
    gone = Unwanted(chains=own, keys=frozenset(keys))
    return gone | unused_for(listing.without(gone))


def bridge_unwanted_for(bridge: str, listing: Listing) -> Unwanted:
    """All that there is of a bridge that no port is on any more."""
    keys = ((*named.key, key) for named in (ZONES, GATEWAYS) for key in listing.entries.get(named.key, {}))
    zone = Unwanted(keys=frozenset(key for key in keys if key[2].split(" . ")[0] == bridge))
    return zone | hairpin_of_bridge_in(bridge, listing)


def groups_wanted_for(around: Surroundings, ports: Collection[PortRules], listing: Listing) -> Wanted:
    """These ports of the network with their groups, as told. A group that was not told of keeps what rules it has here."""
    told = {group.id: group for group in around.groups}
    groups = sorted({(port.table, group) for port in ports for group in port.groups})
    parts = [port_wanted_for(port, listing) for port in ports]
    parts += [group_for(table, told[group], around.group_addresses) for table, group in groups if group in told]
    return Wanted(
        chains=tuple(chain for part in parts for chain in part.chains),
        entries=tuple(entries for part in parts for entries in part.entries),
    ).merged()


def unused_for(listing: Listing) -> Unwanted:
    """Chains and sets of groups that no port's chain leads to."""
    groups = tuple(CHAIN_PREFIXES.values())
    members = tuple(SET_PREFIXES.values())
    # Only ports' chains lead to chains of groups, and only these name sets of members.
    led_to = {(table, name) for (table, _), names in listing.uses.items() for name in names}
    chains = {key for key in listing.chains if key[1].startswith(groups)} - led_to
    named = {(key[0], name) for key, names in listing.uses.items() if key not in chains for name in names}
    sets = {key for key in listing.entries if key[1].startswith(members)} - named
    return Unwanted(chains=frozenset(chains), entries=frozenset(sets))


def is_used(listing: Listing) -> bool:
    """Whether any port here is filtered, has a floating address, or is served by its TAP."""
    return (
        bool(outer_in(listing))
        or is_any_served(listing)
        or any(listing.entries.get((table, "from_port")) for table in TABLES)
    )
