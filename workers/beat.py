"""Beat that outlives its Redis, and its clock: RedBeat's scheduler ends its process when Redis is away for a moment, or its lock
ran out, and sends nothing until a clock that was put back has caught up.

The sweep behind every chain is sent by beat, so neither a restart of Redis nor a correction of the clock may end it.
"""

import time
from types import SimpleNamespace
from typing import Any

import redis
import structlog
from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock, get_redis
from redis.exceptions import LockError

from taskvisor.state.connection import silence_text

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0
EARLY_S = 1.0
"""An entry that is due later than its period from now, and this, was last sent by a clock that has been put back since."""
SILENT = (redis.ConnectionError, redis.TimeoutError)


class Scheduler(RedBeatScheduler):
    """RedBeat's, but that what found Redis silent, or the lock gone, is tried again a second later."""

    _lost_lock = False
    _closed = False

    def setup_schedule(self) -> None:
        """Waits for a Redis that is away, however long, as the nodes do."""
        while True:
            try:
                super().setup_schedule()
            except SILENT as silence:
                log.warning("beat_found_redis_silent", reason=silence_text(silence))
                time.sleep(LOOK_AGAIN_S)
            else:
                return

    def close(self) -> None:
        """Gives the lock back where Redis lets us; where not, it runs out by itself.

        Beat's handler of signals calls this before it raises SystemExit: an error from here would take its place, and a tick in
        the midst would outlive it.
        """
        self._closed = True
        try:
            super().close()
        except (*SILENT, LockError) as failure:
            log.warning("beat_left_its_lock", reason=str(failure))
            self.lock = None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Seconds until the next tick. Sends nothing unless the lock is ours: of two beats one is silent.

        SystemExit once closed: what the signal's handler raised was lost where an error is only noted, as in a finalizer.
        """
        if self._closed:
            raise SystemExit
        try:
            if not self._holds_lock():
                return LOOK_AGAIN_S
            self._ensure_timetable()
            seconds: float = super().tick(*args, **kwargs)
        except SILENT as silence:
            log.warning("beat_found_redis_silent", reason=silence_text(silence))
            return LOOK_AGAIN_S
        except LockError as loss:
            log.warning("beat_lost_its_lock", reason=str(loss))
            self._lost_lock = True
            return LOOK_AGAIN_S
        return seconds

    def _ensure_timetable(self) -> None:
        """Every row is scheduled, though Redis may have lost them, and what would be due only after more than its period is due
        now. One command a tick, more when something was lost or the clock jumped.
        """
        now = self.app.now()
        periods = {
            self.Entry.generate_key(self.app, name): entry["schedule"] for name, entry in self._timetable.items()
        }
        scheduled = get_redis(self.app).zrange(self.app.redbeat_conf.schedule_key, 0, -1, withscores=True)
        if periods.keys() - {key for key, _ in scheduled}:
            log.warning("timetable_was_lost")
            super().setup_schedule()
            return
        for key, due_at in scheduled:
            period = periods.get(key)
            if period is not None and due_at - now.timestamp() > period.total_seconds() + EARLY_S:
                self.Entry.from_key(key, app=self.app).reschedule(last_run_at=now - period)
                log.warning("clock_was_put_back", entry=key, would_be_due_in_s=round(due_at - now.timestamp()))

    @property
    def _timetable(self) -> dict[str, dict[str, Any]]:
        timetable: dict[str, dict[str, Any]] = self.app.conf.beat_schedule
        return timetable

    def _holds_lock(self) -> bool:
        if self.lock is None:  # Redis went away while RedBeat waited for it at the start, which Celery only logs
            acquire_distributed_beat_lock(SimpleNamespace(scheduler=self))
        elif self._lost_lock:
            self._lost_lock = not self.lock.acquire(blocking=False)
        return not self._lost_lock
