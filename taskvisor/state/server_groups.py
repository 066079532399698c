"""Server groups: records, and which guests are in them on which hosts.

Invariant: a guest is a member from the transaction that makes its claim to the one that forgets it, and a hard policy holds in
each of them: two that are let in at once are judged one after the other.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from taskvisor.model.errors import DoesNotFit, Refused, StoreConflict
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Claim
from taskvisor.model.server_group import MEMBERS_LIMIT, GroupPolicy, ServerGroup
from taskvisor.state.codec import OnUnreadable, decode, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction

if TYPE_CHECKING:
    import redis

GROUPS_LIMIT = 10_000
LOOK_UP = """
local id = redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[1]
return {redis.call('GET', ARGV[2] .. id), redis.call('HGETALL', ARGV[3] .. id)}
"""
"""A group by its name or id, and its members, in one look."""

Members = Mapping[InstanceId, HostName]


class ServerGroups:
    """The read side. `on_unreadable` is told of each record that a list leaves out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._look_up = client.register_script(LOOK_UP)

    def look_up(self, name_or_id: str) -> tuple[ServerGroup, Members] | None:
        """The group of that name, else of that id, and where its members are; None when there is neither."""
        with asking(f"look up server group {name_or_id}"):
            text, flat = self._look_up(
                keys=[self._keys.server_groups], args=[name_or_id, self._keys.server_group(""), self._keys.servers("")]
            )
        if not text:
            return None
        members = zip(flat[::2], flat[1::2], strict=True)
        return (
            decode(str(text), ServerGroup, f"server group {name_or_id}"),
            {InstanceId(str(member)): HostName(str(host)) for member, host in members},
        )

    def find(self, name_or_id: str) -> tuple[ServerGroup, Members]:
        """The same; Refused when there is neither."""
        found = self.look_up(name_or_id)
        if found is None:
            raise Refused(
                f"server_group: {name_or_id!r}: there is no such server group; see `taskvisor server-group list`"
            )
        return found

    def list(self) -> tuple[ServerGroup, ...]:
        """All of them, by name."""
        with asking("list server groups"):
            ids = [str(one) for _, one in sorted(self._client.hgetall(self._keys.server_groups).items())]
            texts = self._client.mget([self._keys.server_group(one) for one in ids]) if ids else []
        named = ((f"server group {one}", text) for one, text in zip(ids, texts, strict=True))
        return tuple(decode_each(named, ServerGroup, self._on_unreadable))

    def count(self) -> int:
        """How many there are."""
        with asking("count server groups"):
            return int(self._client.hlen(self._keys.server_groups))


def add_server_group(tx: Transaction, keys: Keys, group: ServerGroup) -> None:
    """Add to a transaction: the group is recorded. StoreConflict when one of that name is."""
    tx.require_absent(keys.server_groups, group.name, StoreConflict)
    tx.do("HSET", keys.server_groups, group.name, group.id)
    tx.do("SET", keys.server_group(group.id), encode(group))


def remove_server_group(tx: Transaction, keys: Keys, group: ServerGroup) -> None:
    """Add to a transaction: the group is gone. Refused while it has a member; StoreConflict when it is gone already."""

    def in_use(member: str) -> Exception:
        return Refused(f"server_group: {group.name!r} has instance {member} in it; delete its instances first")

    tx.require(keys.server_groups, group.name, group.id, StoreConflict)
    tx.require_empty(keys.servers(group.id), in_use)
    tx.do("HDEL", keys.server_groups, group.name)
    tx.do("DEL", keys.server_group(group.id))


def join_server_group(tx: Transaction, keys: Keys, claim: Claim) -> None:
    """Add to a transaction: the claim's instance is a member of its group, on the claim's host and nowhere else.

    DoesNotFit when the policy does not hold with it there, Refused when the group is gone or full.
    """
    group = claim.server_group
    if group is None:
        return
    servers, policy = keys.servers(group.id), group.policy
    tx.require(keys.server_groups, group.name, group.id, _gone(group))
    tx.require_company(
        servers,
        claim.instance_id,
        claim.host,
        policy,
        group.servers_per_host,
        MEMBERS_LIMIT,
        _broken(group, claim.host),
    )
    tx.do("HSET", servers, claim.instance_id, claim.host)


def _gone(group: ServerGroup) -> Callable[[str], Exception]:
    def error(_: str) -> Exception:
        return Refused(f"server_group: {group.name!r} was deleted just now; see `taskvisor server-group list`")

    return error


def _broken(group: ServerGroup, host: HostName) -> Callable[[str], Exception]:
    def error(found: str) -> Exception:
        if found == "full":
            return Refused(
                f"server_group: {group.name!r} has {MEMBERS_LIMIT} guests, and may have no more; make another"
            )
        if group.policy is GroupPolicy.AFFINITY:
            return DoesNotFit(f"host {host}: server group {group.name} has a guest on {found}, and belongs on one host")
        return DoesNotFit(
            f"host {host}: it has {found} of server group {group.name}, and may have {group.servers_per_host}"
        )

    return error
