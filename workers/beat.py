"""Beat that outlives its Redis: RedBeat's scheduler ends its process when Redis is away for a moment, or its lock ran out.

The sweep behind every chain is sent by beat, so a restart of Redis must not end it. Started when Redis is away it still
ends at once, as the lock is not its own yet.
"""

from typing import Any

import redis
import structlog
from redbeat import RedBeatScheduler
from redis.exceptions import LockError

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0


class Scheduler(RedBeatScheduler):
    """RedBeat's, but that a tick which found Redis silent, or the lock gone, is made again a second later."""

    _lost_lock = False

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Seconds until the next tick. Sends nothing unless the lock is ours: of two beats one is silent."""
        try:
            if self._lost_lock and not self.lock.acquire(blocking=False):
                return LOOK_AGAIN_S
            self._lost_lock = False
            seconds: float = super().tick(*args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError) as silence:
            log.warning("beat_found_redis_silent", reason=str(silence))
            return LOOK_AGAIN_S
        except LockError as loss:
            log.warning("beat_lost_its_lock", reason=str(loss))
            self._lost_lock = True
            return LOOK_AGAIN_S
        return seconds
