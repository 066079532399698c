"""libvirt's events in our words: every one that there is, and none by chance."""

import libvirt
import pytest

from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import GuestEvent, LifecycleChange
from virt.event_words import CHANGES, DETAILS, OF_MIGRATIONS, guest_event_for

UUID = InstanceId("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
EVENTS = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "SHUTDOWN", "PMSUSPENDED", "CRASHED")
MIGRATED = libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
POSTCOPY = libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY
FROM_THE_FUTURE = 99


def change_for(event: int, detail: int) -> LifecycleChange | None:
    heard = guest_event_for(UUID, event, detail)
    return None if heard is None else heard.change


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, None),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, None),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, LifecycleChange.STARTED),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, LifecycleChange.PAUSED),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, LifecycleChange.RESUMED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, LifecycleChange.STOPPED),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, LifecycleChange.SHUTDOWN),
        (libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED, LifecycleChange.SUSPENDED),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, LifecycleChange.CRASHED),
        (FROM_THE_FUTURE, None),
    ],
)
def test_an_event_is_what_it_is_whatever_its_detail_but_for_migrations(
    event: int, change: LifecycleChange | None
) -> None:
    details = [detail for known, detail in DETAILS if known == event] + [FROM_THE_FUTURE]
    assert {change_for(event, detail) for detail in details if (event, detail) not in OF_MIGRATIONS} == {change}


@pytest.mark.parametrize(
    ("detail", "change"),
    [(MIGRATED, LifecycleChange.MIGRATION_PAUSED), (POSTCOPY, LifecycleChange.POSTCOPY_STARTED)],
)
def test_a_pause_of_a_migration_is_no_pause_of_the_guests(detail: int, change: LifecycleChange) -> None:
    assert change_for(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, detail) is change


def test_the_detail_is_told_in_libvirts_own_word() -> None:
    event = libvirt.VIR_DOMAIN_EVENT_STOPPED
    assert guest_event_for(UUID, event, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED) == GuestEvent(
        instance_id=UUID, change=LifecycleChange.STOPPED, detail="destroyed"
    )
    unknown = guest_event_for(UUID, event, FROM_THE_FUTURE)
    assert unknown is not None
    assert unknown.detail == "99"


def test_every_event_that_this_libvirt_knows_is_in_the_table() -> None:
    names = {
        name.removeprefix("VIR_DOMAIN_EVENT_")
        for name, value in vars(libvirt).items()
        if name.startswith("VIR_DOMAIN_EVENT_") and isinstance(value, int)
    }
    # An event is a word of its own with details of the same beginning; the other families have several words before theirs.
    events = {name for name in names if "_" not in name}
    assert events == set(EVENTS), "a libvirt with more events: decide what they mean in virt/event_words.py"
    assert {getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}") for name in events} == set(CHANGES)
