"""Whether a host has room. What is decided here is only likely: the claim itself is made under the store's own guard."""

from taskvisor.compute.placement.ask import Ask, Judge, Refusal
from taskvisor.model.records import Host, Resources


def has_room(ask: Ask) -> Judge:
    """All that is short is told, not only the first; of every kind that is asked for, also of those that only plug-ins know."""
    asked = ask.resources
    vcpus, memory_mib, disk_gib, others = asked.vcpus, asked.memory_mib, asked.disk_gib, bool(asked.others)

    def judge(host: Host) -> Refusal | None:
        if host.inventory is None:
            return None
        limits, used = host.inventory.limits, host.used
        if (
            vcpus + used.vcpus <= limits.vcpus
            and memory_mib + used.memory_mib <= limits.memory_mib
            and disk_gib + used.disk_gib <= limits.disk_gib
            and not others
        ):
            return None  # most hosts end here
        return _shortage(asked, limits, used)

    return judge


def _shortage(asked: Resources, limits: Resources, used: Resources) -> Refusal | None:
    has, taken = dict(limits.amounts()), dict(used.amounts())
    reasons, remedies, distance = [], [], 0.0
    for kind, amount in asked.amounts():
        limit, free = has.get(kind, 0), has.get(kind, 0) - taken.get(kind, 0)
        if amount <= free:
            continue
        reasons.append(f"{kind} {amount} asked, {free} of {limit} free")
        if amount > limit:
            remedies.append(f"{kind}: ask for at most {limit}; more does not go on this host even when it is empty")
            distance += 1.0
        else:
            remedies.append(f"{kind}: free {amount - free} more here, or ask for {_at_most(free)}")
        distance += (amount - free) / max(amount, 1)
    return Refusal(reason="; ".join(reasons), remedy="; ".join(remedies), distance=distance) if reasons else None


def _at_most(free: int) -> str:
    return f"at most {free}" if free > 0 else "none"
