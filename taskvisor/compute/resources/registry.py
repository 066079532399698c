"""Finding the kinds that an operator named: ours, and other distributions', by the entry point group `taskvisor.resources`.

Ours are registered in pyproject.toml as a stranger's are, and listed here too: a checkout that is not installed has no entry
points. A test holds the two lists together.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from taskvisor.compute.resources.kind import KindFactory, ResourceChoices, ResourceKind
from taskvisor.compute.resources.table import OUR_KINDS, ResourceTable

GROUP = "taskvisor.resources"
OURS = {name: f"{kind.__module__}:{kind.__qualname__}" for name, kind in OUR_KINDS.items()}


class UnknownKind(ValueError):
    """A kind that can't be had; the message names it, says why, and what is known."""


def open_table(names: Iterable[str], choices: ResourceChoices) -> ResourceTable:
    """The kinds of these names, in that order, after ours, which are always there. UnknownKind when one can't be had."""
    known = _known()
    wanted = dict.fromkeys((*OURS, *names))
    return ResourceTable(kinds={name: _opened(name, known, choices) for name in wanted}, choices=choices)


def _known() -> dict[str, EntryPoint]:
    known = {name: EntryPoint(name=name, value=value, group=GROUP) for name, value in OURS.items()}
    for found in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        ours = known.setdefault(found.name, found)
        if ours.value != found.value:
            raise UnknownKind(
                f"two resource kinds are named {found.name!r}: {ours.value} and {found.value}; remove or rename one"
            )
    return known


def _opened(name: str, known: dict[str, EntryPoint], choices: ResourceChoices) -> ResourceKind:
    if name not in known:
        raise UnknownKind(
            f"TASKVISOR_RESOURCES: there is no resource kind {name!r}; known are: {', '.join(sorted(known))}"
        )
    try:
        factory = cast("KindFactory", known[name].load())
        return factory(choices)
    except Exception as error:  # a stranger's code: whatever it raises, the node must not start without it
        raise UnknownKind(
            f"TASKVISOR_RESOURCES: resource kind {name!r} ({known[name].value}) does not load: {error!r};"
            " mend its distribution, or leave it out"
        ) from error
