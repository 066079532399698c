"""Beat that outlives its Redis: RedBeat's scheduler ends its process when Redis is away for a moment, or its lock ran out.

The sweep behind every chain is sent by beat, so a restart of Redis must not end it, whenever it comes.
"""

import time
from types import SimpleNamespace
from typing import Any

import redis
import structlog
from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock
from redis.exceptions import LockError

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0
SILENT = (redis.ConnectionError, redis.TimeoutError)


class Scheduler(RedBeatScheduler):
    """RedBeat's, but that what found Redis silent, or the lock gone, is tried again a second later."""

    _lost_lock = False

    def setup_schedule(self) -> None:
        """Waits for a Redis that is away, however long, as the nodes do."""
        while True:
            try:
                super().setup_schedule()
            except SILENT as silence:
                log.warning("beat_found_redis_silent", reason=str(silence))
                time.sleep(LOOK_AGAIN_S)
            else:
                return

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Seconds until the next tick. Sends nothing unless the lock is ours: of two beats one is silent."""
        try:
            if not self._holds_lock():
                return LOOK_AGAIN_S
            seconds: float = super().tick(*args, **kwargs)
        except SILENT as silence:
            log.warning("beat_found_redis_silent", reason=str(silence))
            return LOOK_AGAIN_S
        except LockError as loss:
            log.warning("beat_lost_its_lock", reason=str(loss))
            self._lost_lock = True
            return LOOK_AGAIN_S
        return seconds

    def _holds_lock(self) -> bool:
        if self.lock is None:  # Redis went away while RedBeat waited for it at the start, which Celery only logs
            acquire_distributed_beat_lock(SimpleNamespace(scheduler=self))
        elif self._lost_lock:
            self._lost_lock = not self.lock.acquire(blocking=False)
        return not self._lost_lock
