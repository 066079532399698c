"""Choosing a host: every rule is asked of every host, those that fit are weighed, and what was said is kept.

Each weigher's numbers are brought to 0..1 over the hosts that fit (the least is 0, the most 1, all the same is 0), multiplied by
its weight and summed up, as Nova does it. Among equals the host with fewest instances comes first, then by name.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from taskvisor.compute.placement.ask import Ask, Refusal
from taskvisor.compute.placement.judging import Bench, Benches, Standing
from taskvisor.compute.placement.rules import OURS, Rules
from taskvisor.model.errors import NoCapacity
from taskvisor.model.ids import HostName
from taskvisor.model.placement import Choice, Explanation, Row, Weighed, WeighedHost
from taskvisor.model.records import Host

CANDIDATES_LIMIT = 32
"""So many of the best are tried one after the other; then the fleet is looked at anew."""
TOLD_HOSTS_LIMIT = 20
"""So many of the hosts that were refused are told of one by one, the nearest misses first: the record is written at each step."""
TOLD_BEST = 5
SENTENCE_HOSTS_LIMIT = 10
"""So many hosts are in the sentence of an error."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one rule said against one host, with numbers, and what would make it fit."""

    host: HostName
    rule: str
    reason: str
    remedy: str = ""

    @property
    def row(self) -> Row:
        return {"host": self.host, "rule": self.rule, "reason": self.reason, "remedy": self.remedy}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The hosts that fit best, best first, how they were weighed, and what speaks against those that nearly fit.

    `hosts` and `fitting` are how many there were; `refused` is how many each rule refused, `left_out` how many hosts are not
    among the verdicts.
    """

    candidates: tuple[Host, ...]
    verdicts: tuple[Verdict, ...]
    weighed: tuple[WeighedHost, ...] = ()
    hosts: int = 0
    fitting: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0

    def also_refusing(self, verdicts: Iterable[Verdict]) -> "Placement":
        """The same, with hosts that were judged elsewhere and will not do."""
        more = tuple(verdicts)
        return replace(
            self,
            verdicts=(*self.verdicts, *more),
            hosts=self.hosts + len(more),
            refused=Counter(self.refused) + Counter(verdict.rule for verdict in more),
        )

    def explained(self, chosen: HostName | None, lost: Sequence[Verdict] = ()) -> Explanation:
        """What is kept with the operation whose host this is. `lost` speaks against hosts that filled up meanwhile."""
        passed = {verdict.host for verdict in lost}
        best = [one for one in self.weighed if one.host not in passed]
        best.sort(key=lambda one: one.host != chosen)  # it comes first, and the others stay in their order
        return Explanation(
            rows=tuple(verdict.row for verdict in (*self.verdicts, *lost)),
            choice=Choice(
                hosts=self.hosts,
                fitting=self.fitting,
                refused=dict(Counter(self.refused) + Counter(verdict.rule for verdict in lost)),
                left_out=self.left_out,
                best=tuple(best[:TOLD_BEST]),
            ),
        )


class Placer:
    """Places by one set of rules, and remembers what it judged. One per process; safe in threads."""

    def __init__(self, rules: Rules = OURS) -> None:
        self._benches = Benches(rules=rules)
        self._alone = Lock()

    def placement_for(self, ask: Ask, hosts: Iterable[Host]) -> Placement:
        """Judge every host by every rule, and order those that fit."""
        with self._alone:
            bench = self._benches.bench_for(ask)
            fitting, refused = bench.standings(hosts)
        columns = [_Column.of(fitting, number) for number in range(len(bench.gauges))]
        scores = _scores(fitting, columns, bench)
        best = _best(fitting, scores)
        nearest = heapq.nsmallest(TOLD_HOSTS_LIMIT, refused, key=lambda standing: standing.distance)
        told = sorted(nearest, key=lambda standing: standing.host.name) if len(nearest) == len(refused) else nearest
        return Placement(
            candidates=tuple(fitting[index].host for index in best),
            verdicts=tuple(_verdict(one.host, rule, said) for one in told for rule, said in one.refusals),
            weighed=tuple(_weighed(fitting[index], scores[index], columns, bench) for index in best),
            hosts=len(fitting) + len(refused),
            fitting=len(fitting),
            refused=Counter(rule for standing in refused for rule, _ in standing.refusals),
            left_out=len(refused) - len(told),
        )


def placement_for(ask: Ask, hosts: Iterable[Host], rules: Rules = OURS) -> Placement:
    """The same, once and without remembering."""
    return Placer(rules).placement_for(ask, hosts)


def no_capacity(ask: Ask, placement: Placement) -> NoCapacity:
    """The error for a guest that fits nowhere: the nearest misses with every reason, in one sentence."""
    asked = ", ".join(f"{name} {amount}" for name, amount in ask.resources.amounts())
    if placement.hosts == 0:
        return NoCapacity(f"no host has ever reported; start one with `taskvisor worker` (asked: {asked})")
    reasons: dict[HostName, list[str]] = {}
    for verdict in placement.verdicts:
        reasons.setdefault(verdict.host, []).append(verdict.reason)
    told = list(reasons.items())[:SENTENCE_HOSTS_LIMIT]
    table = "; ".join(f"{host}: {', '.join(why)}" for host, why in told)
    more = placement.hosts - len(told)
    by_rule = ", ".join(f"{rule} {hosts}" for rule, hosts in sorted(placement.refused.items()))
    further = f"; and {more} more hosts (hosts refused by rule: {by_rule})" if more else ""
    return NoCapacity(f"no host fits ({asked}): {table}{further}")


@dataclass(frozen=True, slots=True)
class _Column:
    """One weigher's numbers of all hosts that fit."""

    numbers: list[float]
    least: float
    span: float

    @classmethod
    def of(cls, fitting: Sequence[Standing], index: int) -> "_Column":
        numbers = [standing.numbers[index] for standing in fitting]
        least = min(numbers, default=0.0)
        return cls(numbers, least, max(numbers, default=0.0) - least)

    def share(self, number: float) -> float:
        return (number - self.least) / self.span


def _scores(fitting: Sequence[Standing], columns: Sequence[_Column], bench: Bench) -> list[float]:
    scores = [0.0] * len(fitting)
    for column, (_, _, weight) in zip(columns, bench.gauges, strict=True):
        if column.span:
            factor, least = weight / column.span, column.least
            scores = [score + (number - least) * factor for score, number in zip(scores, column.numbers, strict=True)]
    return scores


def _best(fitting: Sequence[Standing], scores: Sequence[float]) -> list[int]:
    """The indexes of the best, best first. Most of a large fleet is left out by its score alone, which is cheap to see."""
    if not scores:
        return []
    worst_wanted, many = heapq.nlargest(CANDIDATES_LIMIT, scores)[-1], len(scores)
    better = [index for index, score in enumerate(scores) if score > worst_wanted]
    better.sort(key=lambda index: (-scores[index], fitting[index].host.instances, index))
    # All hosts of a fleet may be equal: numbers are compared several times as quickly as tuples.
    equal = [
        fitting[index].host.instances * many + index for index, score in enumerate(scores) if score == worst_wanted
    ]
    return [*better, *(place % many for place in heapq.nsmallest(CANDIDATES_LIMIT - len(better), equal))]


def _weighed(standing: Standing, score: float, columns: Sequence[_Column], bench: Bench) -> WeighedHost:
    parts = {
        name: Weighed(number=number, share=round(column.share(number), 4), weight=weight)
        for (name, _, weight), column, number in zip(bench.gauges, columns, standing.numbers, strict=True)
        if column.span  # what is the same of all hosts told none of them apart
    }
    return WeighedHost(host=standing.host.name, score=round(score, 4), parts=parts)


def _verdict(host: Host, rule: str, said: Refusal) -> Verdict:
    return Verdict(host=host.name, rule=rule, reason=said.reason, remedy=said.remedy)
