"""The text of the rules, and what a listing of them says: pure."""

import json
from dataclasses import replace

import msgspec
import pytest

from net.filters.ruleset import KINDS, Listing, NetworkRules, parse_listing, removal_script_for, script_for

RULES = NetworkRules(bridge="brq0f4c9e1a-77", cidr="10.9.0.0/24", nat=True)


def _listed(rules: NetworkRules) -> Listing:
    """The listing of a table that holds just these rules, made from the script's own text."""
    items: list[dict[str, object]] = []
    for line in script_for(rules).splitlines():
        words = line.split()
        if words[:2] == ["add", "rule"]:
            items.append({"rule": {"chain": words[4], "comment": words[-1].strip('"'), "expr": [{"accept": None}]}})
        if words[:2] == ["add", "chain"]:
            items.append({"chain": {"name": words[4], "handle": 1}})
        if words[:2] == ["add", "element"]:
            items.append({"map": {"name": words[4], "elem": [[words[6], {"jump": {"target": words[9]}}]]}})
    raw = {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "taskvisor"}}, *items]}
    return parse_listing(json.dumps(raw).encode())


def test_what_a_script_sets_is_recognised_as_held() -> None:
    assert _listed(RULES).holds(RULES)
    assert _listed(RULES).bridges() == {RULES.bridge}


@pytest.mark.parametrize(
    "other", [replace(RULES, nat=False), replace(RULES, cidr="10.9.0.0/25"), replace(RULES, bridge="brq00000000-00")]
)
def test_other_rules_are_not_taken_for_these(other: NetworkRules) -> None:
    assert not _listed(other).holds(RULES)


def test_a_missing_doubled_or_foreign_rule_or_a_missing_jump_is_noticed() -> None:
    listing = _listed(RULES)
    for key, count in listing.rules.items():
        assert not replace(listing, rules={**listing.rules, key: count - 1}).holds(RULES)
        assert not replace(listing, rules={**listing.rules, key: count + 1}).holds(RULES)
    assert not replace(listing, rules={**listing.rules, (f"to_{RULES.bridge}", ""): 1}).holds(RULES)
    for jump in listing.jumps:
        rest = {key: chain for key, chain in listing.jumps.items() if key != jump}
        assert not replace(listing, jumps=rest).holds(RULES)


def test_another_networks_chains_are_none_of_its_business() -> None:
    listing = _listed(RULES)
    assert replace(listing, rules={**listing.rules, ("to_brq11111111-11", "x"): 3}).holds(RULES)


def test_a_network_without_nat_accepts_and_translates_nothing() -> None:
    script = script_for(replace(RULES, nat=False))
    assert "masquerade" not in script
    assert f"from_{RULES.bridge} reject" in script
    accepting = [line for line in script.splitlines() if " accept comment" in line and " host_" not in line]
    assert len(accepting) == 1, "only between its own ports"


def test_a_script_changes_no_chain_of_another_network() -> None:
    own = {f"{kind}_{RULES.bridge}" for kind in KINDS} | {"forward", "postrouting", "input"}
    flushed = {line.split()[-1] for line in script_for(RULES).splitlines() if line.startswith("flush")}
    assert flushed == own


def test_the_table_goes_with_the_last_network_only() -> None:
    alone = _listed(RULES)
    assert removal_script_for(RULES.bridge, alone).endswith("delete table inet taskvisor\n")
    both = replace(alone, chains=alone.chains | {"to_brq11111111-11"})
    script = removal_script_for(RULES.bridge, both)
    assert "delete table" not in script
    assert "brq11111111-11" not in script


@pytest.mark.parametrize("raw", [b"", b"[]", b"not json", b'{"nftables": [{"rule": {}}]}'])
def test_what_is_no_listing_is_an_error(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        parse_listing(raw)
