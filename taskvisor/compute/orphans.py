"""What is an orphan, and when something is done about it: values in, values out.

Invariant: nothing follows from one look. An orphan was seen by at least two looks that lie `confirm_s` apart, by the same store
without a restart in between, and was not there before that store knew the host.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from taskvisor.model.ids import InstanceId
from taskvisor.model.orphan import (
    REAPED,
    Explained,
    Holdings,
    Orphan,
    OrphanAction,
    OrphanKind,
    StoreMemory,
    StoreSeen,
    Stray,
)
from taskvisor.settings import Settings


@dataclass(frozen=True, kw_only=True)
class OrphanPolicy:
    """What an operator chose."""

    action: OrphanAction = OrphanAction.LOG
    confirm_s: float = 3600.0
    keep_s: float = 7 * 86400.0


def policy_of(settings: Settings) -> OrphanPolicy:
    """What the settings say that the operator chose."""
    return OrphanPolicy(
        action=OrphanAction(settings.orphan_action), confirm_s=settings.orphan_confirm_s, keep_s=settings.orphan_keep_s
    )


def strays_for(found: Holdings, explained: Explained) -> tuple[Stray, ...]:
    """What the host has that nothing recorded explains, in the order in which it would be taken away."""
    strays = [*_domains(found, explained), *_links(found, explained), *_of_instances(found, explained)]
    strays += _others(found, explained)
    order = list(OrphanKind)
    return tuple(sorted(strays, key=lambda stray: (order.index(stray.kind), stray.subject)))


def _domains(found: Holdings, explained: Explained) -> Iterator[Stray]:
    for domain in found.domains:
        if domain.owned and domain.instance_id not in explained.instances:
            ours = domain.instance_id in found.directories
            yield Stray(
                kind=OrphanKind.DOMAIN,
                subject=domain.instance_id,
                instance_id=domain.instance_id,
                said=f"domain {domain.name} is {domain.power_state.label}{'' if ours else '; no directory of it is here'}",
                ours=ours,
            )


def _links(found: Holdings, explained: Explained) -> Iterator[Stray]:
    for link in found.links:
        if link.instance_id not in explained.instances:
            ours = link.name in found.remembered
            said = f"it is port {link.port_id}'s{'' if ours else '; this host remembers nothing of it'}"
            yield Stray(kind=OrphanKind.LINK, subject=link.name, instance_id=link.instance_id, said=said, ours=ours)


def _of_instances(found: Holdings, explained: Explained) -> Iterator[Stray]:
    for volume in found.volumes:
        if volume.instance_id not in explained.instances:
            subject = f"{volume.instance_id} {volume.source}"
            said = f"connected to {volume.source}"
            yield Stray(kind=OrphanKind.CONNECTION, subject=subject, instance_id=volume.instance_id, said=said)
    parts: tuple[tuple[OrphanKind, tuple[InstanceId, ...], str], ...] = (
        (OrphanKind.DIRECTORY, found.directories, "a directory of ours"),
        (OrphanKind.CLAIM, found.claims, "resources of the host are held for it"),
        (OrphanKind.DISK, found.disks, "disks in the host's volume group or Ceph pool"),
    )
    for kind, ids, said in parts:
        for instance_id in ids:
            if instance_id not in explained.instances:
                yield Stray(kind=kind, subject=instance_id, instance_id=instance_id, said=said)


def _others(found: Holdings, explained: Explained) -> Iterator[Stray]:
    for image in found.images:
        if image.image_id not in explained.images:
            said = "a published image" if image.complete else "an unfinished image"
            yield Stray(kind=OrphanKind.IMAGE_FILE, subject=image.image_id, said=said)
    for entry in found.dhcp:
        if (entry.bridge, entry.mac.lower()) not in explained.dhcp:
            said = f"{entry.hostname} is told {entry.address} on {entry.bridge}"
            yield Stray(kind=OrphanKind.DHCP, subject=entry.mac, said=said)


def is_same_store(memory: StoreMemory | None, seen: StoreSeen) -> bool:
    """Whether the store is the one that the host remembers, and has forgotten nothing that the host asked it."""
    return memory is not None and memory.birth == seen.birth and seen.ticks > memory.ticks


def quarantine_for(
    former: Mapping[str, Orphan], strays: Collection[Stray], memory: StoreMemory, seen: StoreSeen, now: float
) -> dict[str, Orphan]:
    """What is in quarantine after this look. What is not seen any more is not in it.

    After a restart of Redis, or where the clock went back, the wait begins anew.
    """
    begins_anew = memory.run != seen.run
    after: dict[str, Orphan] = {}
    for stray in strays:
        known, predates = former.get(stray.key), stray.key in memory.before
        if known is None or begins_anew or known.last_seen > now:
            kept = known is not None and known.kept
            after[stray.key] = Orphan(stray=stray, first_seen=now, last_seen=now, kept=kept, predates=predates)
        else:
            after[stray.key] = replace(known, stray=stray, last_seen=now, times=known.times + 1, predates=predates)
    return after


def is_confirmed(orphan: Orphan, policy: OrphanPolicy) -> bool:
    """Two looks, far enough apart, have seen it, and nothing speaks for letting it be."""
    waited_s = orphan.last_seen - orphan.first_seen
    return _why_left(orphan) is None and orphan.times > 1 and waited_s >= policy.confirm_s


def act_for(orphan: Orphan, policy: OrphanPolicy) -> OrphanAction:
    """What is done about it now."""
    if not is_confirmed(orphan, policy) or policy.action is OrphanAction.NOOP:
        return OrphanAction.NOOP
    kind = orphan.stray.kind
    if policy.action is OrphanAction.REAP and kind in REAPED:
        return OrphanAction.REAP
    if policy.action in (OrphanAction.STOP, OrphanAction.REAP) and kind is OrphanKind.DOMAIN:
        return OrphanAction.STOP
    return OrphanAction.LOG


def fate_of(orphan: Orphan, policy: OrphanPolicy) -> str:
    """What will happen to it, for people: in words, without the time."""
    left = _why_left(orphan)
    if left is not None:
        return f"stays: {left}"
    confirmed = replace(orphan, times=2, last_seen=orphan.first_seen + policy.confirm_s)
    words = {
        OrphanAction.NOOP: "stays: TASKVISOR_ORPHAN_ACTION is noop",
        OrphanAction.LOG: "is told of in the log, and stays",
        OrphanAction.STOP: "is switched off, and stays",
        OrphanAction.REAP: "is taken away",
    }
    said = words[act_for(confirmed, policy)]
    return f"{said}; last time: {orphan.problem}" if orphan.problem else said


def _why_left(orphan: Orphan) -> str | None:
    if orphan.kept:
        return "an operator keeps it"
    if orphan.predates:
        return "it was there before the store knew this host: rebuild its record, or remove it by hand"
    if not orphan.stray.ours:
        return "nothing here shows that this installation made it"
    return None
