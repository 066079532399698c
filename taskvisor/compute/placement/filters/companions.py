"""Where the other guests of a server group are. What is decided here is only likely: the store's guard makes it hold."""

from taskvisor.compute.placement.ask import Ask, Companions, Judge, Refusal
from taskvisor.model.records import Host
from taskvisor.model.server_group import GroupPolicy


def keeps_company(ask: Ask) -> Judge | None:
    """The hard policies: affinity and anti-affinity. The soft ones are weighed, and refuse no host."""
    if ask.companions is None or ask.companions.policy.is_soft:
        return None
    return _beside(ask.companions) if ask.companions.policy is GroupPolicy.AFFINITY else _apart(ask.companions)


def _beside(group: Companions) -> Judge | None:
    if not group.members:
        return None
    where = dict(group.members)
    hosts = ", ".join(sorted(where))

    def judge(host: Host) -> Refusal | None:
        if host.name in where:
            return None
        return Refusal(
            reason=f"the guests of server group {group.name} are on {hosts}, and belong on one host",
            remedy=f"make room on {hosts}, or build without the group",
            distance=2,
        )

    return judge


def _apart(group: Companions) -> Judge | None:
    full = {host: members for host, members in group.members if members >= group.servers_per_host}
    if not full:
        return None

    def judge(host: Host) -> Refusal | None:
        if host.name not in full:
            return None
        return Refusal(
            reason=f"it has {full[host.name]} of server group {group.name}, and may have {group.servers_per_host}",
            remedy="add a host, delete one of the group's guests here, or build without the group",
        )

    return judge
