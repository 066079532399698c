"""Which guests of this host are not what their records make of them. Touches nothing.

The definition that a guest should have is rendered from its record just as a build or a hard reboot would render it, and
read by the same reader as what libvirt has. What is under way explains itself: only guests at rest are looked at.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from tasks.guest_plans import layout_of, xml_of
from taskvisor.flow.ports import Hypervisor, Ports
from taskvisor.model.drift import Difference, GuestDrift
from taskvisor.model.errors import DoesNotFit, Refused, UnreadableRecord
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DefinitionFacts, HypervisorFacts
from taskvisor.model.plan import DiskLayout, DiskStorage
from taskvisor.model.records import Instance
from taskvisor.model.states import VmState
from virt.definition import Definition, parse_definition
from virt.drift import differences_for, file_differences_for

JUDGED = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})
"""In which states a guest has the definition and the disks that its record makes."""
TOLD = 20
"""So many differences of a guest are told: one that was defined by somebody else differs in all there is."""
VALUE_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class _Guest:
    """A guest and the ports of its host, as whoever renders it needs them."""

    instance: Instance
    ports: Ports


@dataclass(frozen=True, kw_only=True)
class _FactsOfHost:
    """What the hypervisor said of its host, once for all guests: to render one it is asked for nothing else."""

    facts: HypervisorFacts

    def read_facts(self) -> HypervisorFacts:
        return self.facts


def drifts_of(ports: Ports, instances: Iterable[Instance], owned: frozenset[InstanceId]) -> tuple[GuestDrift, ...]:
    """The drift of each guest that differs. `owned`: whose domains bear our metadata; others are not read for it.

    CannotAsk when the hypervisor, a disk or the store can't be asked; that is never a difference.
    """
    judged = [one for one in instances if one.vm_state in JUDGED and one.task_state is None and one.id in owned]
    if not judged:
        return ()
    definitions = {found.instance_id: found for found in ports.hypervisor.list_definitions()}
    facts = _FactsOfHost(facts=ports.hypervisor.read_facts())
    asked = replace(ports, hypervisor=cast("Hypervisor", facts))
    return tuple(
        drift
        for instance in judged
        if instance.id in definitions  # else it went since the domains were listed
        for drift in _drift_of(_Guest(instance=instance, ports=asked), definitions[instance.id])
    )


def _drift_of(guest: _Guest, found: DefinitionFacts) -> Iterator[GuestDrift]:
    differences = tuple(_differences(guest, found))
    if differences:
        told = tuple(_shortened(difference) for difference in differences[:TOLD])
        yield GuestDrift(instance_id=guest.instance.id, differences=told, more=len(differences) - len(told))


def _differences(guest: _Guest, found: DefinitionFacts) -> Iterator[Difference]:
    try:
        layout, wanted = layout_of(guest), parse_definition(xml_of(guest))
        persistent, live = _parsed(found.persistent_xml), _parsed(found.live_xml)
    except (Refused, DoesNotFit, UnreadableRecord) as problem:
        yield Difference(code="drift.definition", place="domain", recorded=None, found=str(problem))
        return
    if persistent is None:
        yield Difference(code="drift.definition", place="domain", recorded="defined", found="not defined, only running")
    yield from differences_for(wanted, persistent, live)
    yield from _file_differences(guest, layout)


def _file_differences(guest: _Guest, layout: DiskLayout) -> tuple[Difference, ...]:
    paths = [disk.path for disk in layout.disks if disk.storage is DiskStorage.FILE and _lies_in(disk.path, layout)]
    return file_differences_for(
        guest.instance, layout, {path: guest.ports.disks.read_disk_file(path) for path in paths}
    )


def _lies_in(path: str, layout: DiskLayout) -> bool:
    """Volumes lie elsewhere, and are for whoever attached them to look at."""
    return path.startswith(f"{layout.directory}/")


def _parsed(xml: str | None) -> Definition | None:
    return None if xml is None else parse_definition(xml)


def _shortened(difference: Difference) -> Difference:
    return replace(difference, recorded=_short(difference.recorded), found=_short(difference.found))


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"
