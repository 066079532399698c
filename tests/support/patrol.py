"""A host's look for orphans over a fleet, without Celery."""

from dataclasses import replace

from tasks.orphans import OrphanPatrol
from taskvisor.compute.orphans import OrphanPolicy
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.orphan import OrphanAction
from taskvisor.model.volume import volume_identity_for
from tests.support.fleet import KEYS, Fleet
from tests.support.spies import OnCall, watched, watched_ports
from workers.locks import InstanceLocks
from workers.store_notes import StoreNotesFile

CONFIRM_S = 3600.0
REAP = OrphanPolicy(action=OrphanAction.REAP, confirm_s=CONFIRM_S)


def patrol_of(
    fleet: Fleet, policy: OrphanPolicy = REAP, *, host: str = "h1", on_call: OnCall | None = None
) -> OrphanPatrol:
    """As workers/node.py composes it. `on_call` is told of every call to ports, quarantine and records."""
    there = fleet.hosts[HostName(host)]
    ports, store = there.ports, fleet.store
    if on_call is not None:
        ports = watched_ports(ports, on_call)
        store = replace(
            store,
            orphans=watched(store.orphans, "orphans", on_call),
            repairs=watched(store.repairs, "repairs", on_call),
        )
    return OrphanPatrol(
        store=store,
        host=there.name,
        ports=ports,
        exclusion=InstanceLocks(there.root / "locks"),
        notes=StoreNotesFile(there.root / "store.json"),
        policy=policy,
    )


def look(fleet: Fleet, policy: OrphanPolicy = REAP) -> int:
    """One tick."""
    return patrol_of(fleet, policy).run()


def look_much_later(fleet: Fleet, policy: OrphanPolicy = REAP) -> int:
    """A tick, late enough for what was seen before to be confirmed."""
    fleet.clock.sleep(policy.confirm_s + 1)
    fleet.note_alive("h1")
    return look(fleet, policy)


def lose_record(fleet: Fleet, name: str) -> InstanceId:
    """The store knows nothing of the instance any more; what is claimed, given out and indexed for it stays, and its history."""
    instance = fleet.instance(name)
    fleet.client.delete(KEYS.instance(instance.id))
    fleet.client.srem(KEYS.instances, instance.id)
    fleet.client.srem(KEYS.instances_on(instance.host), instance.id)
    fleet.client.hdel(KEYS.names, name)
    for volume in instance.volumes:
        fleet.client.delete(KEYS.volume(volume_identity_for(volume.source, instance.host)))
    return instance.id
