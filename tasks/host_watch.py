"""Who fell silent, and who is back: noticed, logged and told in the stream of events, once per change.

Invariant: nothing follows from it. A host that is silent may run all its guests; placement looks at its heartbeat by itself.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from tasks.store import Store
from taskvisor.model.errors import StoreConflict
from taskvisor.model.ids import HostName
from taskvisor.model.tick import Counts

log = structlog.get_logger(__name__)

CHECK_HOSTS = "hosts.check"


@dataclass(frozen=True, kw_only=True)
class HostWatch:
    """The fleet's."""

    store: Store
    now: Callable[[], float]

    def run(self) -> Counts:
        """Every change since the last look is told. Counts the hosts that live, and the changes."""
        known, silent = self.store.silence.read(), dict(self.store.hosts.list_alive())
        fell = [host for host, alive in silent.items() if not alive and host not in known]
        back = [host for host, alive in silent.items() if alive and host in known]
        for host in fell:
            self._tell_silent(host)
        for host in back:
            self._tell_back(host, known[host])
        self.store.silence.forget(known.keys() - silent.keys())
        return {"alive": sum(silent.values()), "fell_silent": len(fell), "came_back": len(back)}

    def _tell_silent(self, host: HostName) -> None:
        with suppress(StoreConflict):  # another look has told it
            self.store.silence.note_silent(host, task=CHECK_HOSTS, at=self.now())
            log.warning("host_fell_silent", host=host)

    def _tell_back(self, host: HostName, since: float) -> None:
        with suppress(StoreConflict):
            now = self.now()
            self.store.silence.note_back(host, task=CHECK_HOSTS, since=since, at=now)
            log.info("host_came_back", host=host, silent_since=since, silent_for_s=round(max(0.0, now - since), 1))
