"""Whether anything can be placed on a host at all: it lives, it is enabled, and what it reports makes sense."""

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.model.records import Host, Resources

MOST = {"vcpus": 1_000_000, "memory_mib": 1 << 40, "disk_gib": 1 << 40}
"""More than this is no host: a counter that went wrong."""
MOST_OTHER = 1 << 60
FAR = 10.0


def is_up(_: Ask) -> Judge:
    def judge(host: Host) -> Refusal | None:
        if host.up:
            return None
        remedy = f"start its worker, or look at its log: `taskvisor worker` on {host.name}"
        return Refusal(reason="its worker has not been heard of lately", remedy=remedy, distance=FAR)

    return judge


def is_not_forced_down(_: Ask) -> Judge:
    """A host that an operator called dead takes nothing, whatever its heartbeats say. One that is drained is disabled."""

    def judge(host: Host) -> Refusal | None:
        mark = host.forced_down
        if mark is None:
            return None
        return Refusal(
            reason=f"it was forced down by {mark.by}: {mark.reason}",
            remedy=f"taskvisor host force-down --up {host.name}, if it is in order",
            distance=FAR,
        )

    return judge


def is_enabled(_: Ask) -> Judge:
    def judge(host: Host) -> Refusal | None:
        if host.disabled_reason is None:
            return None
        return Refusal(
            reason=f"it is disabled: {host.disabled_reason}", remedy=f"taskvisor host enable {host.name}", distance=FAR
        )

    return judge


def has_reported(_: Ask) -> Judge:
    def judge(host: Host) -> Refusal | None:
        if host.inventory is not None:
            return None
        return Refusal(
            reason="it has not reported its resources yet",
            remedy="wait for its next report; if there is none, or it can't be read, look at its control node's log",
            distance=FAR,
        )

    return judge


def is_sane(_: Ask) -> Judge:
    """What it reports can be true. A host is never judged by numbers that can't."""

    def judge(host: Host) -> Refusal | None:
        inventory = host.inventory
        if inventory is None:
            return None
        remedy = f"look at what {host.name} reports of itself (`taskvisor host show {host.name}`), and at its settings"
        named = (("total", inventory.total), ("limits", inventory.limits), ("used", host.used))
        for what, amounts in named:
            if not _can_be(amounts):
                kind, amount = next(one for one in amounts.amounts() if not 0 <= one[1] <= MOST.get(one[0], MOST_OTHER))
                return Refusal(reason=f"it reports nonsense: {what}.{kind} is {amount}", remedy=remedy, distance=FAR)
        if inventory.problems:
            return Refusal(reason=f"it takes nothing: {'; '.join(inventory.problems)}", remedy=remedy, distance=FAR)
        return None

    return judge


def _can_be(amounts: Resources) -> bool:
    return (
        0 <= amounts.vcpus <= MOST["vcpus"]
        and 0 <= amounts.memory_mib <= MOST["memory_mib"]
        and 0 <= amounts.disk_gib <= MOST["disk_gib"]
        and all(0 <= amount <= MOST_OTHER for amount in amounts.others.values())
    )
