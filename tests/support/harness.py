"""Any flow that there is, asked of a fleet that was made ready for it: what the crash tests are written over.

Nothing here knows a step. A flow that is added needs a line in EXTRA when its request has required fields.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from tasks.door import ALREADY
from tasks.flows import FLOWS
from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import open_table
from taskvisor.flow.step import Flow, Step
from taskvisor.model.allowed import ALLOWED
from taskvisor.model.operation import Operation
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.states import InstanceAction, VmState
from taskvisor.state.connection import open_redis
from tests.support.fleet import NO_CHOICES, PERIOD_S, SMALL, Fleet
from tests.support.spies import DieAt, Moment, OnCall, WorkerDied, watched
from tests.support.world import outcome_of, read_held, read_hosts

VOLUME = "nfs://filer/export/web.raw"
"""Of every guest that is there."""

EXTRA: dict[str, dict[str, Any]] = {
    "instance.build": {
        "flavor": {
            **SMALL,
            "swap_mib": 64,
            "ephemeral_gib": 1,
            "extra_specs": {"hw:cpu_policy": "dedicated", "hw:mem_page_size": "large"},
        },
        "volumes": [VOLUME, "rbd://volumes/data"],
    },
    "instance.snapshot": {"image": "gold"},
    "instance.attach_volume": {"volume": "rbd://volumes/data"},
    "instance.detach_volume": {"volume": VOLUME},
    "instance.attach_interface": {"interface": {"network": "default", "address": "10.152.7.7"}},
    "instance.detach_interface": {"interface": "10.152.0.2"},
}
"""What a request needs beside the instance. A build is asked for each kind of disk, so that the making of each is
covered, and for what of a host one guest alone may have.
"""

RESOURCES = open_table((), ResourceChoices(dedicated_cpus=frozenset({1, 33, 2, 34})))

OPERATION = "the-operation"
MOMENTS_LIMIT = 1000
SWEEPS_LIMIT = 2
HOP = "post.hop"
"""What a spy is told when a message is about to be sent: who dies there takes the message along."""


@dataclass(frozen=True, kw_only=True)
class End:
    """How it ended: the operation, and all that the fleet then holds."""

    outcome: Any
    hosts: Any
    held: Any

    @property
    def but_for_facts(self) -> tuple[Any, Any, Any]:
        """All but what the steps found, which may tell of the time that went by: a guest that was late to shut down."""
        return {**self.outcome, "facts": sorted(self.outcome["facts"])}, self.hosts, self.held


class Harness:
    """One flow on fresh fleets, as often as it takes; all of them at one place, so that paths can be compared."""

    def __init__(self, flow: Flow, redis_url: str, root: Path, *, choices: OperatorChoices = NO_CHOICES) -> None:
        self.flow = flow
        self._choices = choices
        self._redis_url = redis_url
        self._raw = redis.Redis.from_url(redis_url)
        self._client = open_redis(redis_url, timeout_s=5.0)  # of all fleets: to open one costs as much as a step
        self._root = root / "fleet"
        self._saved_root = root / "saved"
        self._saved_keys: dict[bytes, bytes] | None = None

    def open_fleet(self, flow: Flow | None = None) -> Fleet:
        """An empty fleet, made ready: with a running guest for flows that need one, or one that is off.

        With `flow`, it runs that one in place of the flow of its name.
        """
        if self._saved_keys is None:
            self._save()
        assert self._saved_keys is not None
        shutil.rmtree(self._root)
        shutil.copytree(self._saved_root, self._root)
        self.write_store(self._saved_keys)
        flows = FLOWS if flow is None else {**FLOWS, flow.name: flow}
        return Fleet(
            self._redis_url,
            self._root,
            flows=flows,
            choices=self._choices,
            client=self._client,
            resources=RESOURCES,
        )

    def open_twin(self) -> Fleet:
        """Another process of the same node, so to speak: its own connection and ports, the same store and directories."""
        return Fleet(self._redis_url, self._root, choices=self._choices, resources=RESOURCES)

    def _save(self) -> None:
        """Make a fleet ready once, and keep what it then holds: the next ones are copies."""
        fleet = Fleet(self._redis_url, self._root, choices=self._choices, resources=RESOURCES)
        if self.flow.action is not InstanceAction.CREATE:
            fleet.build("web", volumes=[VOLUME])
            if ALLOWED[self.flow.name].vm_states == {VmState.SOFT_DELETED}:
                fleet.ask("instance.soft_delete", "make-ready", instance="web")
            elif ALREADY.get(self.flow.name) is VmState.ACTIVE:
                fleet.ask("instance.stop", "make-ready", instance="web", timeout_s=0)
        fleet.close()
        shutil.copytree(self._root, self._saved_root)
        self._saved_keys = self.read_store()

    def read_store(self) -> dict[bytes, bytes]:
        """Every key of the store, as Redis would dump it."""
        keys = list(self._raw.scan_iter(count=1000))
        with self._raw.pipeline() as pipe:
            for key in keys:
                pipe.dump(key)
            return dict(zip(keys, pipe.execute(), strict=True))

    def write_store(self, dumps: dict[bytes, bytes]) -> None:
        """The store is as it was when it was read: nothing written since is left."""
        with self._raw.pipeline() as pipe:
            pipe.flushdb()
            for key, dump in dumps.items():
                pipe.restore(key, 0, dump)
            pipe.execute()

    def close(self) -> None:
        self._raw.close()
        self._client.close()

    def begin(self, fleet: Fleet) -> Operation:
        """The flow is asked for."""
        if self.flow.action is InstanceAction.CREATE:
            return fleet.begin_build("web", OPERATION, **EXTRA[self.flow.name])
        return fleet.begin(self.flow.name, OPERATION, instance="web", **EXTRA.get(self.flow.name, {}))

    def unharmed(self) -> End:
        """How it ends when nothing happens to it."""
        fleet = self.open_fleet()
        self.begin(fleet)
        fleet.post.deliver_all()
        end = end_of(fleet)
        fleet.close()
        return end

    def die_everywhere(self, then: Callable[[Fleet, DieAt], None]) -> int:
        """For each moment that there is: begin, die there, and `then`. Returns how many moments there were."""
        for number in range(1, MOMENTS_LIMIT):
            fleet, death = self.open_fleet(), DieAt(number)
            self.begin(fleet)
            watch_all(fleet, death)
            died = deliver_or_die(fleet)
            watch_all(fleet, lambda *_: None)
            then(fleet, death)
            fleet.close()
            if not died:
                return number - 1
        raise AssertionError(f"{self.flow.name} has more than {MOMENTS_LIMIT} moments")


def watch_all(fleet: Fleet, on_call: OnCall) -> None:
    """`on_call` is told of every call to port and journal, by runner and settler, and of every message's hop."""
    fleet.watch(on_call)
    store = fleet.settler.store
    journal = watched(store.journal, "journal", on_call)
    fleet.settler = replace(fleet.settler, store=replace(store, journal=journal))
    fleet.post.between = lambda: on_call(HOP, Moment.BEFORE)


def has_own_undo(step: Step[Any]) -> bool:
    """It leaves something on the host that it can take back."""
    return type(step).undo is not Step.undo


def takes_back(flow: Flow) -> bool:
    """A roll-back of it leaves the host as it was. A guest that was shut down is not started again; nothing was made."""
    return any(has_own_undo(step) for step in flow.steps)


def deliver_or_die(fleet: Fleet) -> bool:
    """Deliver until nothing is in the post, or the worker dies: True. Its messages are lost with it."""
    try:
        fleet.post.deliver_all()
    except WorkerDied:
        fleet.post.chains.clear()
        return True
    return False


def mend(fleet: Fleet) -> None:
    """From now on the flows are the real ones."""
    fleet.flows = FLOWS
    fleet.restart(incarnation="mended")
    fleet.post.chains.clear()


def recover(fleet: Fleet) -> None:
    """The host's node starts anew and carries on what it finds."""
    fleet.restart()
    fleet.post.deliver_all()


def sweep_until_ended(fleet: Fleet) -> None:
    """Its node lives on with a new pool child, and nobody but the sweep looks: two of them, once a try's time is up."""
    fleet.watch(lambda *_: None)
    for _ in range(SWEEPS_LIMIT):
        operation = fleet.read(OPERATION)
        if operation.phase.settled:
            return
        for limit in (operation.runner_until, operation.not_before):
            fleet.clock.advance_to(limit or 0.0)
        fleet.clock.sleep(PERIOD_S + 1.0)
        fleet.sweep.run()
        fleet.post.deliver_all()
    assert fleet.read(OPERATION).phase.settled, f"not found by {SWEEPS_LIMIT} sweeps: {fleet.read(OPERATION)}"


def end_of(fleet: Fleet) -> End:
    """All that can be seen of how it ended."""
    return End(outcome=outcome_of(fleet.read(OPERATION)), hosts=read_hosts(fleet), held=read_held(fleet))
