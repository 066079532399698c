"""libvirt's lifecycle events in our words: a table, and nothing else.

https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventType and the details of each. Details are only told on,
but where a migration is meant: those do not mean what the event's name says of any other guest.
"""

from collections.abc import Mapping

import libvirt

from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import GuestEvent, LifecycleChange

CHANGES: Mapping[int, LifecycleChange | None] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: None,  # of its definition: nothing of a guest's power
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: None,
    libvirt.VIR_DOMAIN_EVENT_STARTED: LifecycleChange.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: LifecycleChange.PAUSED,  # libvirt's "suspended" is Nova's "paused"
    libvirt.VIR_DOMAIN_EVENT_RESUMED: LifecycleChange.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: LifecycleChange.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: LifecycleChange.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: LifecycleChange.SUSPENDED,  # the guest sleeps (ACPI S3), or has gone to disk
    libvirt.VIR_DOMAIN_EVENT_CRASHED: LifecycleChange.CRASHED,
}
"""What each event is, unless its detail says otherwise; None: nobody looks because of it."""

OF_MIGRATIONS: Mapping[tuple[int, int], LifecycleChange] = {
    # Sent when a migration has failed, too: Nova asks for the job's end, and so does our look for the state.
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED): LifecycleChange.MIGRATION_PAUSED,
    (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY): LifecycleChange.POSTCOPY_STARTED,
}

_PREFIX = "VIR_DOMAIN_EVENT_"
_EVENT_NAMES = (
    "DEFINED",
    "UNDEFINED",
    "STARTED",
    "SUSPENDED",
    "RESUMED",
    "STOPPED",
    "SHUTDOWN",
    "PMSUSPENDED",
    "CRASHED",
)


def guest_event_for(instance_id: InstanceId, event: int, detail: int) -> GuestEvent | None:
    """What libvirt's numbers say of the guest; None for what is nothing of its power, or a later libvirt's."""
    change = OF_MIGRATIONS.get((event, detail), CHANGES.get(event))
    if change is None:
        return None
    return GuestEvent(instance_id=instance_id, change=change, detail=DETAILS.get((event, detail), str(detail)))


def _details() -> Mapping[tuple[int, int], str]:
    names = [name for name in vars(libvirt) if name.startswith(_PREFIX)]
    return {
        (getattr(libvirt, _PREFIX + event), getattr(libvirt, name)): name.removeprefix(f"{_PREFIX}{event}_").lower()
        for event in _EVENT_NAMES
        for name in names
        if name.startswith(f"{_PREFIX}{event}_")
    }


DETAILS = _details()
"""libvirt's word for each detail of each event."""
