"""Judging hosts one by one, and remembering it: a host that has not changed is not judged twice for the same wish.

Invariant: what is remembered can't be wrong. It belongs to one wish, word for word, and to one host's record, the very object:
records are frozen, and who reads a host anew makes a new one.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite

import msgspec

from taskvisor.compute.placement.ask import Ask, Gauge, Judge, Refusal
from taskvisor.compute.placement.rules import Rules
from taskvisor.model.ids import HostName
from taskvisor.model.records import Host

KEPT_ASKS = 8
"""Wishes whose judgements are kept; some megabytes each in a fleet of 10,000 hosts."""


@dataclass(slots=True)
class Standing:
    """How one host stands: what speaks against it, by rule, or the numbers of the weighers, in their order."""

    host: Host
    refusals: tuple[tuple[str, Refusal], ...]
    numbers: tuple[float, ...] = ()
    distance: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The rules as they are for one wish: those that have something to say about it."""

    judges: tuple[tuple[str, Judge], ...]
    gauges: tuple[tuple[str, Gauge, float], ...]
    known: dict[HostName, Standing] = field(default_factory=dict)

    def standings(self, hosts: Iterable[Host]) -> tuple[list[Standing], list[Standing]]:
        """Those that fit, and those that do not, each in the order of the hosts."""
        fitting: list[Standing] = []
        refused: list[Standing] = []
        known = self.known
        for host in hosts:
            standing = known.get(host.name)
            if standing is None or standing.host is not host:
                standing = known[host.name] = self._judged(host)
            (refused if standing.refusals else fitting).append(standing)
        return fitting, refused

    def _judged(self, host: Host) -> Standing:
        refusals = [(name, refusal) for name, judge in self.judges if (refusal := _asked(judge, host)) is not None]
        numbers = []
        for name, gauge, _ in self.gauges if not refusals else ():
            try:
                number = float(gauge(host))
            except Exception as problem:  # noqa: BLE001 - a stranger's: no host's data, and no rule's mistake, ends a placement
                refusals.append((name, _mistaken(problem)))
                continue
            numbers.append(number if isfinite(number) else 0.0)
        far = sum(refusal.distance for _, refusal in refusals)
        return Standing(host, tuple(refusals), tuple(numbers), (far, float(len(refusals))))


@dataclass(frozen=True, kw_only=True)
class Benches:
    """The benches of the latest wishes. One per process; not for several threads at once."""

    rules: Rules
    kept: OrderedDict[bytes, Bench] = field(default_factory=OrderedDict)

    def bench_for(self, ask: Ask) -> Bench:
        wish = msgspec.json.encode(ask)
        bench = self.kept.pop(wish, None) or _bench(self.rules, ask)
        self.kept[wish] = bench
        if len(self.kept) > KEPT_ASKS:
            self.kept.popitem(last=False)
        return bench


def _bench(rules: Rules, ask: Ask) -> Bench:
    judges = ((name, rule(ask)) for name, rule in rules.filters)
    gauges = ((name, weigher(ask), weight) for name, weigher, weight in rules.weighers)
    return Bench(
        judges=tuple((name, judge) for name, judge in judges if judge is not None),
        gauges=tuple((name, gauge, weight) for name, gauge, weight in gauges if gauge is not None),
    )


def _asked(judge: Judge, host: Host) -> Refusal | None:
    try:
        return judge(host)
    except Exception as problem:  # noqa: BLE001 - as above
        return _mistaken(problem)


def _mistaken(problem: Exception) -> Refusal:
    return Refusal(
        reason=f"the rule itself failed: {type(problem).__name__}: {problem}",
        remedy="look at what the host reports, then at the rule; TASKVISOR_FILTERS and TASKVISOR_WEIGHTS leave it out",
        distance=5.0,
    )
