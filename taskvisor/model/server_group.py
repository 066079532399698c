"""Server groups: guests that are to be beside each other, or apart. Nova's word, and its policies."""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import ServerGroupId

MEMBERS_LIMIT = 1000
"""Guests of one group: the store looks at all of them when one more is let in."""


class GroupPolicy(StrEnum):
    """Where the guests of a group are to be. The soft ones are wishes, the others hold whatever happens."""

    AFFINITY = "affinity"  # all on one host
    ANTI_AFFINITY = "anti-affinity"  # at most `servers_per_host` on one host
    SOFT_AFFINITY = "soft-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"

    @property
    def is_soft(self) -> bool:
        return self in (GroupPolicy.SOFT_AFFINITY, GroupPolicy.SOFT_ANTI_AFFINITY)


@dataclass(frozen=True, kw_only=True)
class ServerGroup:
    """`servers_per_host` is how many of them may be on one host, with anti-affinity; Nova's max_server_per_host."""

    id: ServerGroupId
    name: str
    policy: GroupPolicy
    servers_per_host: int = 1
