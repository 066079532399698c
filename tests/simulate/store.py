"""Redis as the simulated nodes see it: a real server whose calls can be held up, refused, repeated, or undone by a crash."""

from collections.abc import Callable, Mapping
from typing import Any

import redis

SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  table.insert(found, key)
  table.insert(found, redis.call('DUMP', key))
end
return found
"""
UNDO = """
redis.call('FLUSHDB')
for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
"""

Snapshot = Mapping[bytes, bytes]


def hook(client: "redis.Redis", calling: Callable[[str, Callable[[], Any]], Any]) -> None:
    """From now on every call of the client goes through `calling(name, call)`. Sets come sorted: their order is chance."""
    hooked: Any = client
    execute, open_pipeline = hooked.execute_command, hooked.pipeline

    def execute_hooked(*args: Any, **options: Any) -> Any:
        answer = calling(str(args[0]), lambda: execute(*args, **options))
        return sorted(answer) if isinstance(answer, set) else answer

    def open_hooked(*args: Any, **options: Any) -> Any:
        pipe = open_pipeline(*args, **options)
        run = pipe.execute

        def run_hooked(**options: Any) -> Any:
            stack = list(pipe.command_stack)

            def call() -> Any:
                pipe.command_stack = list(stack)  # for a call that is repeated
                return run(**options)

            return calling("PIPELINE", call)

        pipe.execute = run_hooked
        return pipe

    hooked.execute_command = execute_hooked
    hooked.pipeline = open_hooked


class Disk:
    """What the server would find after a crash."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._take = self._client.register_script(SNAPSHOT)
        self._undo = self._client.register_script(UNDO)

    def take(self) -> Snapshot:
        """All keys, as they are now."""
        found = self._take()
        return dict(zip(found[::2], found[1::2], strict=True))

    def put_back(self, snapshot: Snapshot) -> frozenset[str]:
        """All keys are as they were; those that differed are returned."""
        now = self.take()
        self._undo(args=[part for pair in snapshot.items() for part in pair])
        return frozenset(key.decode() for key in {*now, *snapshot} if now.get(key) != snapshot.get(key))

    def forget_scripts(self) -> None:
        """Each script is loaded anew at its first use: that is a call too, and belongs to the run."""
        self._client.script_flush()

    def close(self) -> None:
        self._client.close()
