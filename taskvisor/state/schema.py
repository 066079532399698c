"""Which version of the records a store holds: one number under the key `schema`, and whether this version may read on.

The number is the highest of all versions that ever wrote to the store. Single records bear their own (see `codec`), so a
fleet can be upgraded host by host: a node that runs meanwhile passes over what it can't read, and one that starts is told.
"""

from typing import TYPE_CHECKING

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.operation import SCHEMA_VERSION
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

MARK = """
local found = redis.call('GET', KEYS[1])
if not found or (string.match(found, '^%d+$') and tonumber(found) < tonumber(ARGV[1])) then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return found
"""


def ensure_schema(client: "redis.Redis", keys: Keys, *, version: int = SCHEMA_VERSION) -> None:
    """The store is marked as written by this version or one before it.

    UnreadableRecord, in words, when a newer version wrote it, and then nothing is changed; CannotAsk when Redis is silent.
    """
    with asking("mark the store with its schema"):
        found = client.register_script(MARK)(keys=[keys.schema], args=[version])
    _require_at_most(version, str(found), keys)


def require_readable(client: "redis.Redis", keys: Keys, *, version: int = SCHEMA_VERSION) -> None:
    """Nothing but a look: UnreadableRecord when a newer version wrote the store. A store without a mark is a new one."""
    with asking("tell the schema of the store"):
        found = client.get(keys.schema)
    if found is not None:
        _require_at_most(version, str(found), keys)


def _require_at_most(version: int, found: str, keys: Keys) -> None:
    if not found.isdecimal():
        raise UnreadableRecord(
            f"this store is marked with schema {found!r}, which is no number: does the key {keys.schema} belong to another"
            " program? see TASKVISOR_KEY_PREFIX"
        )
    if int(found) > version:
        raise UnreadableRecord(
            f"this store was written by a newer Taskvisor (schema {found}; this one reads up to {version}): upgrade this node"
        )
