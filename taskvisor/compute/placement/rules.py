"""Which rules are asked and what weighs how much: ours and others' by name, chosen by an operator.

Others' come as entry points (https://packaging.python.org/en/latest/specifications/entry-points/) of the groups
`taskvisor.filters` and `taskvisor.weighers`: a callable as `ask.Filter` or `ask.Weigher` has it, under the name that settings
choose it by. Ours are named here, so that a checkout that is not installed has them too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from taskvisor.compute.placement.ask import Filter, Weigher
from taskvisor.compute.placement.filters import aggregates, capability, companions, connection, readiness, wishes
from taskvisor.compute.placement.filters.capacity import has_room
from taskvisor.compute.placement.weighers import companions as company
from taskvisor.compute.placement.weighers import image, load, room
from taskvisor.model.errors import Refused

FILTERS_GROUP, WEIGHERS_GROUP = "taskvisor.filters", "taskvisor.weighers"

ALWAYS: Mapping[str, Filter] = {"reported": readiness.has_reported, "sane": readiness.is_sane}
"""What the others rely on: asked first, whatever is chosen."""

FILTERS: Mapping[str, Filter] = {
    "up": readiness.is_up,
    "forced_down": readiness.is_not_forced_down,
    "enabled": readiness.is_enabled,
    "host": wishes.is_the_host_asked_for,
    "image": wishes.has_the_image,
    "excluded": wishes.has_not_refused,
    "zone": wishes.is_in_the_zone,
    "labels": wishes.is_labelled,
    "network": connection.is_connected,
    "architecture": capability.is_of_the_architecture,
    "virt_type": capability.is_of_the_virt_type,
    "traits": capability.has_the_traits,
    "capabilities": capability.has_the_capabilities,
    "project": aggregates.is_for_the_project,
    "aggregate_properties": aggregates.has_the_aggregate_properties,
    "server_group": companions.keeps_company,
    "capacity": has_room,
}
"""Ours, in the order in which they are asked where nobody chose."""

WEIGHERS: Mapping[str, Weigher] = {
    "memory": room.free_memory,
    "cpu": room.free_cpus,
    "disk": room.free_disk,
    "instances": room.instances,
    "io_workload": load.io_workload,
    "build_failures": load.build_failures,
    "image_cached": image.image_cached,
    "soft_affinity": company.soft_affinity,
    "soft_anti_affinity": company.soft_anti_affinity,
}

SPREAD: Mapping[str, float] = {
    "memory": 1.0,
    "io_workload": -1.0,
    "build_failures": -1000.0,
    "image_cached": 0.5,
    "soft_affinity": 10.0,
    "soft_anti_affinity": -10.0,
}
"""What counts where nobody chose: guests go where most memory is free. What is not named counts nothing."""
PACK: Mapping[str, float] = {**SPREAD, "memory": -1.0}
"""Guests go where least memory is free, so that hosts stay empty."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What every host is asked, in that order, and what counts how much among those that fit."""

    filters: tuple[tuple[str, Filter], ...]
    weighers: tuple[tuple[str, Weigher, float], ...]


NO_WEIGHTS: Mapping[str, float] = {}


def rules_for(
    filters: Iterable[str] = (), weights: Mapping[str, float] = NO_WEIGHTS, base: Mapping[str, float] = SPREAD
) -> Rules:
    """The rules of these names, in that order (none: all of ours), and those weights in place of the ones of `base`.

    Refused names one that nobody has, that is there twice or can't be loaded, with all that are known.
    """
    chosen = tuple(filters) or tuple(FILTERS)
    known, weighers = _known(FILTERS_GROUP, {**ALWAYS, **FILTERS}), _known(WEIGHERS_GROUP, WEIGHERS)
    if twice := [name for number, name in enumerate(chosen) if name in chosen[:number]]:
        raise Refused(f"TASKVISOR_FILTERS: {twice[0]} is there twice; leave one out")
    counted = {**base, **weights}
    named = (*ALWAYS, *(name for name in chosen if name not in ALWAYS))
    return Rules(
        filters=tuple((name, _found(known, name, "TASKVISOR_FILTERS", "filter")) for name in named),
        weighers=tuple(
            (name, _found(weighers, name, "TASKVISOR_WEIGHTS", "weigher"), weight)
            for name, weight in counted.items()
            if weight != 0 or name not in weighers  # so that a wrong name is told whatever it weighs
        ),
    )


def _known(group: str, ours: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ours, and the entry points of others, not loaded yet. Refused when two have one name."""
    known: dict[str, Any] = dict(ours)
    for point in entry_points(group=group):
        if point.name in known:
            whose = "Taskvisor's own" if point.name in ours else "another's"
            raise Refused(f"{group}: {point.value} calls itself {point.name}, which is {whose}; remove one of the two")
        known[point.name] = point
    return known


def _found(known: Mapping[str, Any], name: str, setting: str, what: str) -> Any:
    if name not in known:
        raise Refused(f"{setting}: {name!r}: there is no {what} of that name; known: {', '.join(sorted(known))}")
    found = known[name]
    if not isinstance(found, EntryPoint):
        return found
    try:
        loaded = found.load()
    except Exception as problem:
        raise Refused(
            f"{setting}: {what} {name} ({found.value}) can't be loaded: {type(problem).__name__}: {problem}"
        ) from problem
    if not callable(loaded):
        raise Refused(f"{setting}: {what} {name} ({found.value}) is no function, but {type(loaded).__name__}")
    return loaded


OURS = Rules(
    filters=(*ALWAYS.items(), *FILTERS.items()),
    weighers=tuple((name, WEIGHERS[name], weight) for name, weight in SPREAD.items()),
)
"""All of ours, as they are where nobody chose."""
