"""What the client has open in this process: Celery's side of a Redis, and the side of the records. Knows no request.

Each process has its own: whoever comes here after a fork opens anew, and leaves the parent's connections alone.
"""

import os
import threading
from dataclasses import dataclass
from typing import Any

from taskvisor.client.fork_gate import GATE
from taskvisor.client.sending import Door
from taskvisor.model.errors import Refused

OPENING = threading.Lock()
"""Held by who opens: `import celery` by several threads at once fails in some of them (it puts another module in its own place).
Taken inside the gate only, so no child finds it held."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """`records`: a connection of the store, whose type is the store's business."""

    door: Door
    records: Any


class Connections:
    """Safe in threads. Nothing is connected to before the first question."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._by_process: dict[int, Opened] = {}
        self._found_fit: set[int] = set()

    def opened(self) -> Opened:
        """This process's. Refused when the URL is none that a Redis could have."""
        found = self._by_process.get(os.getpid())
        if found is not None:
            return found
        with GATE.pass_through(), OPENING:
            return self._by_process.get(os.getpid()) or self._open()

    def require_fit(self) -> None:
        """The Redis evicts no keys, asked once in a process; requests in one that does would vanish with no word.

        Refused with what to set, unless TASKVISOR_ALLOW_VOLATILE_REDIS allows it; CannotAsk.
        """
        if os.getpid() in self._found_fit:
            return
        with GATE.pass_through():
            from taskvisor.state.fitness import eviction_of, read_policy  # noqa: PLC0415 - redis: see `sending`

            flaw = eviction_of(read_policy(self.opened().records))
        if flaw is not None:
            _refuse_unless_allowed(flaw.sentence)
        self._found_fit.add(os.getpid())

    def close(self) -> None:
        """This process's connections are closed. A later question opens new ones."""
        opened = self._by_process.pop(os.getpid(), None)
        if opened is not None:
            opened.door.close()
            opened.records.close()

    def _open(self) -> Opened:
        from taskvisor.state.connection import open_redis  # noqa: PLC0415 - redis: see `sending`

        records = open_redis(self._url, timeout_s=self._timeout_s)
        made = Opened(door=Door(self._url, self._timeout_s), records=records)
        self._by_process[os.getpid()] = made
        return made


def _refuse_unless_allowed(sentence: str) -> None:
    from taskvisor.settings import read_settings  # noqa: PLC0415 - pydantic, which a client with a URL does not need

    if not read_settings().allow_volatile_redis:
        raise Refused(f"{sentence}; nothing was asked (TASKVISOR_ALLOW_VOLATILE_REDIS=true allows it for tests)")
