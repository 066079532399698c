"""Security groups: records, which of them name each other, and who may still need one.

Invariant: a group that a port is in, or a rule names, is there. All changes are one after another (`revisions`), and who gets
an instance recorded must still find its groups (`require_groups`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from taskvisor.model.errors import Refused, StoreConflict
from taskvisor.model.group_spec import DEFAULT_GROUP, default_group_for
from taskvisor.model.ids import SecurityGroupId, security_group_id_for
from taskvisor.model.network import Port, SecurityGroup
from taskvisor.state.codec import OnUnreadable, decode, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys
from taskvisor.state.networks import move_revision, read_revision
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Outcome, Writer

if TYPE_CHECKING:
    import redis

LIST = "groups"
GROUPS_LIMIT = 4096


@dataclass(frozen=True, kw_only=True)
class GroupNames:
    """The name of each group by its id, and the revision of their list, which was read before them."""

    names: dict[SecurityGroupId, str]
    revision: int

    def id_of(self, name_or_id: str) -> SecurityGroupId:
        """The id of the group of that name or id; Refused when there is none."""
        for group_id in (security_group_id_for(name_or_id), SecurityGroupId(name_or_id)):
            if group_id in self.names:
                return group_id
        raise Refused(f"remote_group: {name_or_id!r}: there is no such group; see `taskvisor group list`")


class SecurityGroups:
    """Every security group. `on_unreadable` is told of each record that a list leaves out."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable

    def find(self, name_or_id: str) -> SecurityGroup:
        """The group of that name, else of that id. `default` is made at first use. Refused for others that are not there."""
        found = self.look_up(name_or_id)
        if found is None and name_or_id == DEFAULT_GROUP:
            found = self._ensure_default()
        if found is None:
            raise Refused(f"security_groups: {name_or_id!r}: there is no such group; see `taskvisor group list`")
        return found

    def look_up(self, name_or_id: str) -> SecurityGroup | None:
        """The group of that name, else of that id; None when there is neither."""
        return self.read(security_group_id_for(name_or_id)) or self.read(SecurityGroupId(name_or_id))

    def read(self, group_id: SecurityGroupId) -> SecurityGroup | None:
        """The group of that id; None when there is none."""
        with asking(f"read security group {group_id}"):
            text = self._client.get(self._keys.group(group_id))
        return decode(str(text), SecurityGroup, f"security group {group_id}") if text else None

    def read_names(self) -> GroupNames:
        """What the groups are called."""
        revision = read_revision(self._client, self._keys, LIST)
        with asking("list security groups"):
            names = cast("dict[str, str]", self._client.hgetall(self._keys.groups))
        return GroupNames(names={SecurityGroupId(one): str(name) for one, name in names.items()}, revision=revision)

    def list(self) -> tuple[SecurityGroup, ...]:
        """All of them, by name."""
        ids = sorted(self.read_names().names)
        with asking("list security groups"):
            texts = self._client.mget([self._keys.group(one) for one in ids]) if ids else []
        named = ((f"security group {one}", text) for one, text in zip(ids, texts, strict=True))
        found = decode_each(named, SecurityGroup, self._on_unreadable)
        return tuple(sorted(found, key=lambda group: group.name))

    def _ensure_default(self) -> SecurityGroup:
        group = default_group_for(security_group_id_for(DEFAULT_GROUP))
        tx = Transaction()
        tx.require_absent(self._keys.groups, group.id, StoreConflict)
        write_group(tx, self._keys, group)
        tx.do("HINCRBY", self._keys.revisions, LIST, 1)
        try:
            tx.run(self._client, "make the default security group")
        except StoreConflict:
            return self.find(group.id)
        return group


class GroupChanges:
    """The one writer of groups' records but for the default one. StoreConflict means: look again and decide again."""

    def __init__(self, client: "redis.Redis", writer: Writer) -> None:
        self._client = client
        self._writer = writer
        self._keys: Keys = writer.keys

    def create(self, group: SecurityGroup, seen: GroupNames, answer: Outcome) -> None:
        """The group is there, and its caller told. StoreConflict when one of that name is, or any has changed since."""
        if len(seen.names) >= GROUPS_LIMIT:
            raise Refused(f"name: there are {len(seen.names)} security groups, and may be no more; delete one first")
        tx = self._changing(seen)
        tx.require_absent(self._keys.groups, group.id, StoreConflict)
        self._write(tx, group, answer)

    def update(self, group: SecurityGroup, seen: GroupNames, answer: Outcome) -> None:
        """The group has these rules now. StoreConflict when it is gone, or any has changed since."""
        tx = self._changing(seen)
        tx.require_present(self._keys.groups, group.id, StoreConflict)
        self._write(tx, group, answer)

    def delete(self, group: SecurityGroup, seen: GroupNames, answer: Outcome) -> None:
        """The group is gone. Refused while a port is in it, or a rule of another group names it."""
        keys, tx = self._keys, self._changing(seen)
        self._require_unnamed(group, seen)
        tx.require_present(keys.groups, group.id, StoreConflict)
        tx.require_empty(keys.grouped(group.id), lambda port: _in_use(group, port))
        tx.do("DEL", keys.group(group.id))
        tx.do("HDEL", keys.groups, group.id)
        tx.do("HDEL", keys.remotes, group.id)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"delete security group {group.name}")

    def _require_unnamed(self, group: SecurityGroup, seen: GroupNames) -> None:
        with asking("read which security groups name each other"):
            remotes = cast("dict[str, str]", self._client.hgetall(self._keys.remotes))
        for other, named in remotes.items():
            if group.id in named.split() and other != group.id:
                name = seen.names.get(SecurityGroupId(other), other)
                raise Refused(f"group: {group.name!r} is the remote_group of a rule of {name!r}; update that one first")

    def _changing(self, seen: GroupNames) -> Transaction:
        tx = Transaction()
        move_revision(tx, self._keys, LIST, seen.revision)
        return tx

    def _write(self, tx: Transaction, group: SecurityGroup, answer: Outcome) -> None:
        write_group(tx, self._keys, group)
        self._writer.outcome(tx, answer)
        tx.run(self._client, f"write security group {group.name}")


def write_group(tx: Transaction, keys: Keys, group: SecurityGroup) -> None:
    """Add to a transaction: the record, its name, and which groups it names."""
    tx.do("SET", keys.group(group.id), encode(group))
    tx.do("HSET", keys.groups, group.id, group.name)
    remotes = sorted({rule.remote_group for rule in group.rules if rule.remote_group is not None})
    if remotes:
        tx.do("HSET", keys.remotes, group.id, " ".join(remotes))
    else:
        tx.do("HDEL", keys.remotes, group.id)


def require_groups(tx: Transaction, keys: Keys, ports: Iterable[Port]) -> None:
    """Add to a transaction: the groups of all these ports are there; else Refused."""
    for group_id in sorted({group_id for port in ports for group_id in port.security_groups}):
        tx.require_present(keys.groups, group_id, _gone(group_id))


def _gone(group_id: SecurityGroupId) -> Callable[[str], Exception]:
    def error(_: str) -> Exception:
        return Refused(f"security_groups: group {group_id} was deleted just now; see `taskvisor group list`")

    return error


def _in_use(group: SecurityGroup, port: str) -> Exception:
    return Refused(f"group: port {port} is in {group.name!r}; delete its instance, or update that port first")
