"""How many operations there are that somebody may have to look after, at this moment: one round trip, bounded.

Must never read a record: what is counted is in the indexes, so that a record that does not parse is counted too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

LOOK_LIMIT = 2_000
"""Unsettled operations that are looked at one by one: some ten milliseconds of Redis' time."""
NOT_LOOKED_AT = "not_looked_at"
"""In place of the phase of those beyond the limit, and of one whose record is gone or has none."""

CENSUS_SCRIPT = """
local phases, oldest = {}, false
local ids = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)
for _, id in ipairs(ids) do
  local phase = redis.call('HGET', ARGV[1] .. id, 'phase') or ARGV[3]
  phases[phase] = (phases[phase] or 0) + 1
  local created = redis.call('ZSCORE', KEYS[2], id)
  if created and not (oldest and tonumber(oldest) <= tonumber(created)) then oldest = created end
end
local beyond = redis.call('ZCARD', KEYS[1]) - #ids
if beyond > 0 then phases[ARGV[3]] = (phases[ARGV[3]] or 0) + beyond end
local flat = {}
for phase, number in pairs(phases) do table.insert(flat, phase) table.insert(flat, number) end
local longest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {flat, oldest, longest[2] or false, redis.call('SCARD', KEYS[3])}
"""


@dataclass(frozen=True, kw_only=True)
class OperationCensus:
    """`unsettled` is how many by phase; the times are those of the oldest of them, and of the one longest without progress."""

    unsettled: Mapping[str, int]
    oldest_created_at: float | None
    longest_updated_at: float | None
    stuck: int


class Census:
    """Counts what is there now."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._keys = keys
        self._script = client.register_script(CENSUS_SCRIPT)

    def read_operations(self) -> OperationCensus:
        """The operations that have not ended, and those that are STUCK. CannotAsk when Redis is silent."""
        keys = [self._keys.unsettled, self._keys.operations, self._keys.stuck]
        with asking("count the operations"):
            flat, oldest, longest, stuck = self._script(
                keys=keys, args=[self._keys.operation(""), LOOK_LIMIT, NOT_LOOKED_AT]
            )
        return OperationCensus(
            unsettled={str(phase): int(number) for phase, number in zip(flat[::2], flat[1::2], strict=True)},
            oldest_created_at=float(oldest) if oldest else None,
            longest_updated_at=float(longest) if longest else None,
            stuck=int(stuck),
        )
