"""Periodic tasks in the store: whose turn it is, and what became of the last runs.

A turn of a task that is done once for the whole fleet is a key with a token, which its holder gives back, and which expires when
its holder has been killed: nobody runs longer than its time limit. Expiry is by the server's clock; a key that would live on for
longer than it was ever given is one from before that clock was put back, and holds nobody up.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from taskvisor.model.ids import HostName
from taskvisor.model.tick import Run, Turn
from taskvisor.state.codec import OnUnreadable, decode_each, encode, log_unreadable
from taskvisor.state.connection import asking
from taskvisor.state.counters import CounterName, field_for
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

RUNS_KEPT = 10
"""Of each task of each host. With six tasks that is about 10 KiB a host."""
KEEP_S = 30 * 86400
"""What a host that is no more has left is gone after so long."""

TAKE_SCRIPT = """
local function held(key, longest_ms)
  local left_ms = redis.call('PTTL', key)
  return left_ms >= 0 and left_ms <= longest_ms
end
local keep_ms, soon_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
if held(KEYS[1], keep_ms) then return 'running' end
if soon_ms > 0 and held(KEYS[2], soon_ms) then return 'too_soon' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', keep_ms)
if soon_ms > 0 then redis.call('SET', KEYS[2], ARGV[1], 'PX', soon_ms) end
return 'taken'
"""

GIVE_BACK_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Ticks:
    """Turns and runs of periodic tasks."""

    def __init__(self, client: "redis.Redis", keys: Keys, on_unreadable: OnUnreadable = log_unreadable) -> None:
        self._client = client
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._take = client.register_script(TAKE_SCRIPT)
        self._give_back = client.register_script(GIVE_BACK_SCRIPT)

    def take_turn(self, task: str, token: str, *, keep_s: float, soon_s: float) -> Turn:
        """The fleet's turn of the task is the token's for at most `keep_s`, unless another has it, or took it within `soon_s`.

        `soon_s` 0: it never comes too soon.
        """
        keys = [self._keys.tick_turn(task), self._keys.tick_soon(task)]
        with asking(f"take the turn of {task}"):
            return Turn(str(self._take(keys=keys, args=[token, int(keep_s * 1000), int(soon_s * 1000)])))

    def give_back_turn(self, task: str, token: str) -> None:
        """The turn is nobody's, if it was still the token's."""
        with asking(f"give back the turn of {task}"):
            self._give_back(keys=[self._keys.tick_turn(task)], args=[token])

    def next_slice(self, task: str) -> int:
        """A number that is one higher each time: which hosts are next to be sent the task."""
        with asking(f"count the slices of {task}"):
            return int(self._client.hincrby(self._keys.tick_slices, task, 1))

    def note(self, run: Run) -> None:
        """The run is recorded, and an older one of that task and host forgotten for it. It is counted too."""
        last, past = self._keys.tick_last(run.host), self._keys.tick_runs(run.host, run.task)
        text = encode(run)
        with asking(f"record a run of {run.task}"), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(last, run.task, text)
            pipe.expire(last, KEEP_S)
            pipe.lpush(past, text)
            pipe.ltrim(past, 0, RUNS_KEPT - 1)
            pipe.expire(past, KEEP_S)
            pipe.hincrby(self._keys.counters, field_for(CounterName.TICKS, run.task, run.outcome))
            pipe.execute()

    def count_skipped(self, task: str, turn: Turn) -> None:
        """A run that was asked for did not begin, for it was not its turn."""
        with asking(f"count a skipped run of {task}"):
            self._client.hincrby(self._keys.counters, field_for(CounterName.TICKS_SKIPPED, task, turn.value))

    def list_last(self, hosts: Iterable[HostName]) -> tuple[Run, ...]:
        """The last run of every task on each of these hosts: one round trip."""
        with asking("read the last runs of periodic tasks"):
            pipe = self._client.pipeline(transaction=False)
            names = tuple(hosts)
            for name in names:
                pipe.hvals(self._keys.tick_last(name))
            answers = pipe.execute(raise_on_error=False)
        return tuple(self._runs_in(zip(names, answers, strict=True)))

    def list_runs(self, host: HostName, task: str) -> tuple[Run, ...]:
        """The runs of that task there that are kept, the latest first."""
        with asking(f"read the runs of {task} on {host}"):
            answer = self._client.lrange(self._keys.tick_runs(host, task), 0, -1)
        return tuple(self._runs_in([(host, answer)]))

    def _runs_in(self, answers: Iterable[tuple[HostName, object]]) -> Iterator[Run]:
        for host, answer in answers:
            what = f"a run of a periodic task on {host}"
            texts = answer if isinstance(answer, list) else [answer]
            yield from decode_each(((what, text) for text in texts), Run, self._on_unreadable)
