"""Any flow that there is, asked of a fleet that was made ready for it: what the crash tests are written over.

Nothing here knows a step. A flow that is added needs a line in EXTRA when its request has required fields.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tasks.door import ALREADY
from taskvisor.flow.step import Flow
from taskvisor.model.operation import Operation
from taskvisor.model.states import InstanceAction, VmState
from tests.support.fleet import Fleet
from tests.support.spies import DieAt, WorkerDied
from tests.support.world import outcome_of, read_held, read_hosts

EXTRA: dict[str, dict[str, Any]] = {"instance.snapshot": {"image": "gold"}}
"""What a request needs beside the instance."""

OPERATION = "the-operation"
MOMENTS_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class End:
    """How it ended: the operation, and all that the fleet then holds."""

    outcome: Any
    hosts: Any
    held: Any


class Harness:
    """One flow on fresh fleets, as often as it takes; all of them at one place, so that paths can be compared."""

    def __init__(self, flow: Flow, redis_url: str, root: Path) -> None:
        self.flow = flow
        self._redis_url = redis_url
        self._root = root / "fleet"
        self._saved_root = root / "saved"
        self._saved_keys: dict[bytes, bytes] | None = None

    def open_fleet(self) -> Fleet:
        """An empty fleet, made ready: with a running guest for flows that need one, or one that is off."""
        if self._saved_keys is None:
            self._save()
        assert self._saved_keys is not None
        shutil.rmtree(self._root)
        shutil.copytree(self._saved_root, self._root)
        with redis.Redis.from_url(self._redis_url) as client, client.pipeline() as pipe:
            pipe.flushdb()
            for key, dump in self._saved_keys.items():
                pipe.restore(key, 0, dump)
            pipe.execute()
        return Fleet(self._redis_url, self._root)

    def _save(self) -> None:
        """Make a fleet ready once, and keep what it then holds: the next ones are copies."""
        fleet = Fleet(self._redis_url, self._root)
        if self.flow.action is not InstanceAction.CREATE:
            fleet.build("web")
            if ALREADY.get(self.flow.name) is VmState.ACTIVE:
                fleet.ask("instance.stop", "make-ready", instance="web", timeout_s=0)
        fleet.close()
        shutil.copytree(self._root, self._saved_root)
        with redis.Redis.from_url(self._redis_url) as client:
            self._saved_keys = {key: client.dump(key) for key in client.scan_iter()}

    def begin(self, fleet: Fleet) -> Operation:
        """The flow is asked for."""
        if self.flow.action is InstanceAction.CREATE:
            return fleet.begin_build("web", OPERATION)
        return fleet.begin(self.flow.name, OPERATION, instance="web", **EXTRA.get(self.flow.name, {}))

    def unharmed(self) -> End:
        """How it ends when nothing happens to it."""
        fleet = self.open_fleet()
        self.begin(fleet)
        fleet.post.deliver_all()
        return end_of(fleet)

    def die_everywhere(self, then: Callable[[Fleet, DieAt], None]) -> int:
        """For each moment that there is: begin, die there, and `then`. Returns how many moments there were."""
        for number in range(1, MOMENTS_LIMIT):
            fleet, death = self.open_fleet(), DieAt(number)
            self.begin(fleet)
            fleet.watch(death)
            died = deliver_or_die(fleet)
            then(fleet, death)
            fleet.close()
            if not died:
                return number - 1
        raise AssertionError(f"{self.flow.name} has more than {MOMENTS_LIMIT} moments")


def deliver_or_die(fleet: Fleet) -> bool:
    """Deliver until nothing is in the post, or the worker dies: True. Its messages are lost with it."""
    try:
        fleet.post.deliver_all()
    except WorkerDied:
        fleet.post.chains.clear()
        return True
    return False


def recover(fleet: Fleet) -> None:
    """The host's node starts anew and carries on what it finds."""
    fleet.restart()
    fleet.post.deliver_all()


def end_of(fleet: Fleet) -> End:
    """All that can be seen of how it ended."""
    return End(outcome=outcome_of(fleet.read(OPERATION)), hosts=read_hosts(fleet), held=read_held(fleet))
