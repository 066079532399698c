"""The difference between what is wanted and what is there, as a script: pure."""

import json
from dataclasses import replace

import msgspec
import pytest

from net.filters.chains import Chain, Entries, Listing, Unwanted, Wanted, parse_listing, removal_script_for, script_for

TABLE = "bridge taskvisor"
CHAIN = Chain(
    table=TABLE, name="in_tap1", rules=("meta mark 1 accept", "jump reach_web", "ip saddr @members4_ops accept")
)
MAP = Entries(
    table=TABLE, name="in_port", declared="map {} {{ type ifname : verdict; }}", elements={"tap1": "jump in_tap1"}
)
SET = Entries(
    table=TABLE, name="members4_ops", declared="set {} {{ type ipv4_addr; }}", elements={"10.0.0.1": ""}, exact=True
)
WANTED = Wanted(chains=(CHAIN,), entries=(MAP, SET))
HELD = Listing().with_all(WANTED)


def test_what_is_not_there_is_made_whole_and_in_an_order_that_nft_takes() -> None:
    assert script_for(WANTED, Listing()).splitlines() == [
        "add table bridge taskvisor",
        "add map bridge taskvisor in_port { type ifname : verdict; }",
        "add set bridge taskvisor members4_ops { type ipv4_addr; }",
        "add chain bridge taskvisor in_tap1",
        *(f'add rule bridge taskvisor in_tap1 {rule} comment "{CHAIN.digest}"' for rule in CHAIN.rules),
        "add element bridge taskvisor in_port { tap1 : jump in_tap1 }",
        "add element bridge taskvisor members4_ops { 10.0.0.1 }",
    ]


def test_what_is_there_needs_no_script() -> None:
    assert script_for(WANTED, HELD) == ""
    assert script_for(WANTED + WANTED, HELD) == ""


@pytest.mark.parametrize("rules", [("drop",), CHAIN.rules[:2], (*CHAIN.rules, "drop"), tuple(reversed(CHAIN.rules))])
def test_a_chain_with_other_rules_is_made_anew(rules: tuple[str, ...]) -> None:
    other = Listing().with_all(replace(WANTED, chains=(replace(CHAIN, rules=rules),)))
    lines = script_for(WANTED, other).splitlines()
    assert lines[1] == "flush chain bridge taskvisor in_tap1"
    assert len(lines) == 2 + len(CHAIN.rules)


def test_a_rule_without_our_comment_is_noticed() -> None:
    touched = replace(HELD, chains={CHAIN.key: (CHAIN.digest, "", CHAIN.digest)})
    assert "flush chain bridge taskvisor in_tap1" in script_for(WANTED, touched)


def test_elements_come_and_go_alone_where_no_others_are_to_be() -> None:
    grown = replace(SET, elements={"10.0.0.2": ""})
    assert script_for(Wanted(entries=(grown,)), HELD).splitlines()[1:] == [
        "delete element bridge taskvisor members4_ops { 10.0.0.1 }",
        "add element bridge taskvisor members4_ops { 10.0.0.2 }",
    ]
    other = replace(MAP, elements={"tap2": "jump in_tap2"})
    assert script_for(Wanted(entries=(other,)), HELD).splitlines()[1:] == [
        "add element bridge taskvisor in_port { tap2 : jump in_tap2 }"
    ]


def test_an_element_that_leads_elsewhere_is_replaced() -> None:
    other = replace(MAP, elements={"tap1": "jump in_tap2"})
    assert script_for(Wanted(entries=(other,)), HELD).splitlines()[1:] == [
        "delete element bridge taskvisor in_port { tap1 }",
        "add element bridge taskvisor in_port { tap1 : jump in_tap2 }",
    ]


def test_only_what_is_there_is_removed_and_whoever_leads_there_first() -> None:
    unwanted = Unwanted(
        chains=frozenset({CHAIN.key, (TABLE, "nowhere")}),
        entries=frozenset({SET.key}),
        keys=frozenset({(*MAP.key, "tap1"), (*MAP.key, "tap9")}),
    )
    assert removal_script_for(unwanted, HELD).splitlines() == [
        "delete element bridge taskvisor in_port { tap1 }",
        "flush chain bridge taskvisor in_tap1",
        "delete chain bridge taskvisor in_tap1",
        "delete set bridge taskvisor members4_ops",
    ]
    assert HELD.without(unwanted) == Listing(entries={MAP.key: {}})
    assert removal_script_for(unwanted, Listing()) == ""


def test_a_listing_is_read_as_what_a_script_leaves() -> None:
    place = {"family": "bridge", "table": "taskvisor"}
    rules: list[dict[str, object]] = [
        {"expr": [{"accept": None}]},
        {"expr": [{"jump": {"target": "reach_web"}}]},
        {"expr": [{"match": {"right": "@members4_ops"}}, {"accept": None}]},
    ]
    items = [
        {"metainfo": {"version": "1.0.6"}},
        {"chain": {**place, "name": "in_tap1", "handle": 1}},
        *({"rule": {**place, "chain": "in_tap1", "comment": CHAIN.digest, **rule}} for rule in rules),
        {"map": {**place, "name": "in_port", "elem": [["tap1", {"jump": {"target": "in_tap1"}}]]}},
        {"set": {**place, "name": "members4_ops", "elem": ["10.0.0.1"]}},
    ]
    assert parse_listing(json.dumps({"nftables": items}).encode()) == HELD


@pytest.mark.parametrize(
    ("element", "word"),
    [
        ({"concat": ["brq1", "02:00:00:00:00:01"]}, "brq1 . 02:00:00:00:00:01"),
        ({"concat": ["brq1", {"prefix": {"addr": "10.0.0.0", "len": 24}}]}, "brq1 . 10.0.0.0/24"),
    ],
)
def test_elements_are_read_in_the_words_that_they_are_written_in(element: object, word: str) -> None:
    item = {"set": {"family": "inet", "table": "t", "name": "s", "elem": [element]}}
    assert parse_listing(json.dumps({"nftables": [item]}).encode()).entries == {("inet t", "s"): {word: ""}}


@pytest.mark.parametrize("raw", [b"", b"[]", b"not json", b'{"nftables": [{"rule": {}}]}'])
def test_what_is_no_listing_is_an_error(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        parse_listing(raw)
