"""Choosing a host. Every rule is asked of every host, and what each said is kept: placement explains itself."""

from taskvisor.compute.placement.ask import Ask, Companions, Filter, Gauge, Judge, Refusal, Weigher
from taskvisor.compute.placement.asking import ask_for
from taskvisor.compute.placement.choosing import Placement, Placer, Verdict, no_capacity, placement_for
from taskvisor.compute.placement.rules import FILTERS, OURS, PACK, SPREAD, WEIGHERS, Rules, rules_for

__all__ = [
    "FILTERS",
    "OURS",
    "PACK",
    "SPREAD",
    "WEIGHERS",
    "Ask",
    "Companions",
    "Filter",
    "Gauge",
    "Judge",
    "Placement",
    "Placer",
    "Refusal",
    "Rules",
    "Verdict",
    "Weigher",
    "ask_for",
    "no_capacity",
    "placement_for",
    "rules_for",
]
