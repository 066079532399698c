"""How many guests of the same server group are there: what the soft policies wish for."""

from taskvisor.compute.placement.ask import Ask, Gauge
from taskvisor.model.server_group import GroupPolicy


def soft_affinity(ask: Ask) -> Gauge | None:
    return _members_there(ask, GroupPolicy.SOFT_AFFINITY)


def soft_anti_affinity(ask: Ask) -> Gauge | None:
    return _members_there(ask, GroupPolicy.SOFT_ANTI_AFFINITY)


def _members_there(ask: Ask, policy: GroupPolicy) -> Gauge | None:
    if ask.companions is None or ask.companions.policy is not policy:
        return None
    members = dict(ask.companions.members)
    return lambda host: members.get(host.name, 0)
