"""How long what periodic tasks wait for has waited (`taskvisor.compute.patience`), from one look to the next.

Of each task only one run goes on at a time, so that a look is written whole, in place of the one before.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis

KEEP_S = 30 * 86400
"""What nobody has looked at for so long begins anew."""


class Waiting:
    """One hash a task: id to seconds waited and time last seen."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self, task: str) -> dict[str, tuple[float, float]]:
        """Of each id the seconds waited and the time of the last look. What can't be read has not waited yet."""
        with asking(f"read how long {task} has waited"):
            found = self._client.hgetall(self._keys.waited(task))
        waited = {}
        for one, text in found.items():
            with suppress(ValueError):
                waited_s, seen_at = map(float, str(text).split())
                waited[str(one)] = (waited_s, seen_at)
        return waited

    def write(self, task: str, waited: Mapping[str, tuple[float, float]]) -> None:
        """These are all that there are."""
        key = self._keys.waited(task)
        with asking(f"write how long {task} has waited"), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            if waited:
                pipe.hset(key, mapping={one: f"{waited_s:.3f} {at:.3f}" for one, (waited_s, at) in waited.items()})
                pipe.expire(key, KEEP_S)
            pipe.execute()
