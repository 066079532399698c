"""Chains, and the elements of named maps and sets, as text for nft(8): what is wanted, what is there, and the difference. Pure.

Knows nothing of what the rules are for. Every rule bears the digest of its chain's text as its comment, which is how what is
there is compared with what is wanted without understanding it. A script is one transaction: the kernel takes it whole or not
at all, and a frame meets the rules of before or of after, never half of them. Tables are named with their family: `bridge x`.
Source: nft(8), libnftables-json(5).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec

DIGEST_CHARS = 16
_REFERENCE = re.compile(rb'"target": ?"([^"]+)"|"@([^"]+)"')
"""A jump's target or a set's name, in the JSON of a rule; and in its text."""
_NAME = re.compile(r"\bjump (\S+)|@([\w-]+)(?= |$)")  # not the @th,64,128 of a raw payload


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain and all of its rules, in order. `hook` None: it is only jumped to."""

    table: str
    name: str
    rules: tuple[str, ...]
    hook: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.table, self.name

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.rules).encode()).hexdigest()[:DIGEST_CHARS]


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Elements of a named map or set: key -> value, of a set key -> "". `declared` is what nft makes it by.

    `exact`: there are no others in it.
    """

    table: str
    name: str
    declared: str
    elements: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.table, self.name


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be in the tables, whatever else is there."""

    chains: tuple[Chain, ...] = ()
    entries: tuple[Entries, ...] = ()

    def __add__(self, other: "Wanted") -> "Wanted":
        return Wanted(chains=self.chains + other.chains, entries=self.entries + other.entries)

    def merged(self) -> "Wanted":
        """The same, with each chain, map and set once: many ports want the same chains, and elements of the same maps."""
        chains = {chain.key: chain for chain in self.chains}
        entries: dict[tuple[str, str], Entries] = {}
        for named in self.entries:
            before = entries.get(named.key, named).elements
            entries[named.key] = replace(named, elements={**before, **named.elements})
        return Wanted(chains=tuple(chains.values()), entries=tuple(entries.values()))


@dataclass(frozen=True, kw_only=True)
class Unwanted:
    """What is to go: chains by (table, name), whole maps and sets likewise, and single keys of those that stay."""

    chains: frozenset[tuple[str, str]] = frozenset()
    entries: frozenset[tuple[str, str]] = frozenset()
    keys: frozenset[tuple[str, str, str]] = frozenset()

    def __or__(self, other: "Unwanted") -> "Unwanted":
        return Unwanted(
            chains=self.chains | other.chains, entries=self.entries | other.entries, keys=self.keys | other.keys
        )


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is in tables: the comments of each chain's rules and the names that its rules use; each map's and set's elements."""

    chains: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    uses: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    entries: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)

    def __add__(self, other: "Listing") -> "Listing":
        return Listing(
            chains={**self.chains, **other.chains},
            uses={**self.uses, **other.uses},
            entries={**self.entries, **other.entries},
        )

    def holds(self, chain: Chain) -> bool:
        """The chain is there with these rules and no other."""
        return self.chains.get(chain.key) == (chain.digest,) * len(chain.rules)

    def with_all(self, wanted: Wanted) -> "Listing":
        """What is there once `script_for` that has been run."""
        entries = dict(self.entries)
        for named in wanted.entries:
            kept = {} if named.exact else entries.get(named.key, {})
            entries[named.key] = {**kept, **named.elements}
        return Listing(
            chains={**self.chains, **{chain.key: (chain.digest,) * len(chain.rules) for chain in wanted.chains}},
            uses={**self.uses, **{chain.key: frozenset(_names_in(chain.rules)) for chain in wanted.chains}},
            entries=entries,
        )

    def without(self, unwanted: Unwanted) -> "Listing":
        """What is there once `removal_script_for` that has been run."""
        if unwanted == Unwanted():
            return self
        return Listing(
            chains={key: rules for key, rules in self.chains.items() if key not in unwanted.chains},
            uses={key: names for key, names in self.uses.items() if key not in unwanted.chains},
            entries={
                named: {key: value for key, value in elements.items() if (*named, key) not in unwanted.keys}
                for named, elements in self.entries.items()
                if named not in unwanted.entries
            },
        )


def script_for(wanted: Wanted, listing: Listing) -> str:
    """The script after which all that is wanted is there; "" when it is. What is as wanted is not touched."""
    wanted = wanted.merged()
    lines = [*_additions_of(wanted, listing), *_rules_of(wanted, listing), *_elements_of(wanted, listing)]
    tables = sorted({chain.table for chain in wanted.chains} | {named.table for named in wanted.entries})
    return _script([f"add table {table}" for table in tables] + lines) if lines else ""


def removal_script_for(unwanted: Unwanted, listing: Listing) -> str:
    """The script after which nothing unwanted is there; "" when nothing is. Whoever jumps to what goes, goes with it."""
    there = [(table, name, key) for table, name, key in unwanted.keys if key in listing.entries.get((table, name), {})]
    lines = [f"delete element {table} {name} {{ {key} }}" for table, name, key in sorted(there)]
    chains = sorted(unwanted.chains & listing.chains.keys())
    lines += [f"flush chain {table} {name}" for table, name in chains]
    lines += [f"delete chain {table} {name}" for table, name in chains]
    for table, name in sorted(unwanted.entries & listing.entries.keys()):
        lines.append(f"delete set {table} {name}")
    return _script(lines) if lines else ""


def parse_listing(raw: bytes) -> Listing:
    """What `nft -j list table` printed. msgspec.MsgspecError when it isn't that."""
    items = msgspec.json.decode(raw, type=_Document).nftables
    chains: dict[tuple[str, str], list[str]] = {}
    uses: dict[tuple[str, str], set[str]] = {}
    entries: dict[tuple[str, str], Mapping[str, str]] = {}
    for item in items:
        if item.chain is not None:
            key = (f"{item.chain.family} {item.chain.table}", item.chain.name)
            chains.setdefault(key, [])
            uses.setdefault(key, set())
        if item.rule is not None:
            key = (f"{item.rule.family} {item.rule.table}", item.rule.chain)
            chains.setdefault(key, []).append(item.rule.comment)
            uses.setdefault(key, set()).update(_references_in(item.rule.expr))
        for named in (item.map, item.set):
            if named is not None:
                entries[f"{named.family} {named.table}", named.name] = dict(map(_element_of, named.elem))
    return Listing(
        chains={key: tuple(comments) for key, comments in chains.items()},
        uses={key: frozenset(names) for key, names in uses.items()},
        entries=entries,
    )


def _additions_of(wanted: Wanted, listing: Listing) -> Iterator[str]:
    for entries in wanted.entries:
        if entries.key not in listing.entries:
            yield f"add {entries.declared.format(f'{entries.table} {entries.name}')}"
    for chain in wanted.chains:
        if chain.key not in listing.chains:
            yield f"add chain {chain.table} {chain.name}" + (f" {{ {chain.hook}; }}" if chain.hook else "")


def _rules_of(wanted: Wanted, listing: Listing) -> Iterator[str]:
    for chain in wanted.chains:
        if listing.holds(chain):
            continue
        if listing.chains.get(chain.key):
            yield f"flush chain {chain.table} {chain.name}"
        for rule in chain.rules:
            yield f'add rule {chain.table} {chain.name} {rule} comment "{chain.digest}"'


def _elements_of(wanted: Wanted, listing: Listing) -> Iterator[str]:
    for entries in wanted.entries:
        here = listing.entries.get(entries.key, {})
        stale = [k for k, v in here.items() if entries.elements.get(k, None if entries.exact else v) != v]
        new = {key: value for key, value in entries.elements.items() if here.get(key) != value}
        if stale:
            yield f"delete element {entries.table} {entries.name} {{ {', '.join(sorted(stale))} }}"
        if new:
            listed = ", ".join(f"{key} : {value}" if value else key for key, value in sorted(new.items()))
            yield f"add element {entries.table} {entries.name} {{ {listed} }}"


def _script(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _references_in(expressions: msgspec.Raw) -> Iterator[str]:
    for jump, named in _REFERENCE.findall(bytes(expressions)):
        yield (jump or named).decode()


def _names_in(rules: Iterable[str]) -> Iterator[str]:
    for rule in rules:
        for jump, named in _NAME.findall(rule):
            yield jump or named


def _element_of(element: object) -> tuple[str, str]:
    """Key and value as nft is told them: a map's element is a pair, a set's is the key alone."""
    if isinstance(element, list):
        key, value = element
        return _word_of(key), _word_of(value)
    return _word_of(element), ""


def _word_of(value: object) -> str:
    match value:
        case {"jump": {"target": str(target)}}:
            return f"jump {target}"
        case {"concat": list(parts)}:
            return " . ".join(map(_word_of, parts))
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case _:
            return str(value)


class _Rule(msgspec.Struct):
    family: str
    table: str
    chain: str
    expr: msgspec.Raw
    comment: str = ""


class _Chain(msgspec.Struct):
    family: str
    table: str
    name: str


class _Named(msgspec.Struct):
    family: str
    table: str
    name: str
    elem: list[object] = []  # msgspec copies it for each instance


class _Item(msgspec.Struct):
    rule: _Rule | None = None
    chain: _Chain | None = None
    map: _Named | None = None
    set: _Named | None = None


class _Document(msgspec.Struct):
    nftables: list[_Item]
