"""Whether a machine may be the host that its settings say: what is so, against what is kept and recorded. Pure.

Nova keeps a `compute_id` and refuses a changed host name, or guests under a new service. Here each reason is a `Clash`, all
of them are told at once, and what an operator may overrule is a property of the clash, not of the moment.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.identity import Beat, GuestHere, HostIdentity, HostLook, KnownHost, Role, Seat
from taskvisor.model.ids import HostName

ADOPT = "`taskvisor worker --adopt-identity`"
NAMED_LIMIT = 3
"""So many guests are named in a sentence; of the others it says how many there are."""


class Clash(StrEnum):
    """Why a machine may not be that host."""

    DAMAGED = "damaged"  # its own identity file can't be read
    RENAMED = "renamed"  # it is another host by its own file
    RENAMED_WITH_INSTANCES = "renamed-with-instances"  # and instances are recorded on that one
    OTHER_MACHINE = "other-machine"  # the file was made on another machine
    OTHER_HYPERVISOR = "other-hypervisor"  # libvirt says that its host is another
    TAKEN = "taken"  # the store knows another machine under the name
    ALIVE_ELSEWHERE = "alive-elsewhere"  # and a node of it is being heard of
    GUESTS_UNKNOWN = "guests-unknown"  # guests of ours are here that there is no record of
    GUESTS_ELSEWHERE = "guests-elsewhere"  # guests of ours are here that are recorded on another host

    @property
    def adoptable(self) -> bool:
        """An operator may say that it is right so. Never where two machines, or two names, would answer for one guest."""
        return self not in (Clash.RENAMED_WITH_INSTANCES, Clash.ALIVE_ELSEWHERE, Clash.GUESTS_ELSEWHERE)


ADOPTABLE = frozenset(clash for clash in Clash if clash.adoptable)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One reason, as a sentence that says what is so and what to do."""

    clash: Clash
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Claimant:
    """Who wants to be a host: by its settings, by its own file (`kept`), and where it runs."""

    host: HostName
    kept: HostIdentity | None
    seat: Seat
    file: str
    """The path of the identity file, for sentences."""


def is_proven(claimant: Claimant, known: KnownHost) -> bool:
    """File, settings and store say the same of this very boot of this machine: nothing more needs to be asked."""
    kept, record = claimant.kept, known.record
    return (
        kept is not None
        and record is not None
        and kept.registered
        and kept.host == claimant.host
        and kept.machine_id == claimant.seat.machine_id
        and record.id == kept.id
        and record.seat == claimant.seat
    )


def suspects(claimant: Claimant, known: KnownHost, held_here: Collection[Role]) -> tuple[Beat, ...]:
    """Heartbeats that may be of a node on another machine: it is one that lives if it renews them.

    `held_here` are roles that another process holds the lock of, in this state directory: its heartbeats come from here. What
    was recorded in this very seat came from here too, and is over: the lock is ours.
    """
    record = known.record
    if record is not None and record.seat == claimant.seat:
        return ()
    return tuple(beat for beat in known.beats if beat.role not in held_here)


def is_renewed(before: Beat, now: Collection[Beat]) -> bool:
    """Somebody has written this heartbeat since: its time to live only falls by itself."""
    return any(
        beat.role is before.role and (beat.incarnation != before.incarnation or beat.left_ms > before.left_ms)
        for beat in now
    )


def alive_refusal(claimant: Claimant, known: KnownHost) -> Refusal:
    """The refusal of a machine whose name is in use by one that lives."""
    return Refusal(
        clash=Clash.ALIVE_ELSEWHERE,
        sentence=f"a node of host {claimant.host} lives {_where(known, claimant.seat)} and is heard of; one name is for one"
        " machine: give this one another TASKVISOR_HOST and an empty TASKVISOR_STATE_DIR (if this disk is a copy, its"
        f" {claimant.file} is the other's), or stop that one first",
    )


def paper_refusals(claimant: Claimant, known: KnownHost, instances_before: int) -> Iterator[Refusal]:
    """What file, settings and store have against each other. `instances_before`: recorded on the host that the file names."""
    kept, host = claimant.kept, claimant.host
    if kept is not None and kept.host != host:
        yield _renamed(claimant, kept, instances_before)
    if kept is not None and _differ(kept.machine_id, claimant.seat.machine_id):
        yield Refusal(
            clash=Clash.OTHER_MACHINE,
            sentence=f"{claimant.file} was made on another machine (machine-id {kept.machine_id}, here"
            f" {claimant.seat.machine_id}); if its disk was copied, remove the copy of the file and choose another"
            f" TASKVISOR_HOST; if the machine was replaced, or set up anew, run {ADOPT} once",
        )
    if known.record is not None and (kept is None or kept.id != known.record.id):
        yield Refusal(
            clash=Clash.TAKEN,
            sentence=f"the name {host} belongs to another machine, {_where(known, claimant.seat)}, and {known.instances}"
            f" {_instances(known.instances)} on record there; choose another TASKVISOR_HOST; if this machine takes that one's"
            " place, or is that one and has lost its state directory, and the former will never run again, run"
            f" {ADOPT} once",
        )


def look_refusals(claimant: Claimant, known: KnownHost, look: HostLook) -> Iterator[Refusal]:
    """What is on the machine, against what is on record. Guests are asked about only under an identity new to the store:
    of a known one they are strays, which `taskvisor verify` finds.
    """
    kept = claimant.kept
    if kept is not None and _differ(kept.hypervisor_id, look.hypervisor_id):
        yield Refusal(
            clash=Clash.OTHER_HYPERVISOR,
            sentence=f"libvirt says that its host is {look.hypervisor_id}, and {claimant.file} was made with"
            f" {kept.hypervisor_id}: is this machine a clone of that one? if so, remove the copy of the file and choose"
            f" another TASKVISOR_HOST; if its board was replaced, run {ADOPT} once",
        )
    if known.record is not None and kept is not None and known.record.id == kept.id:
        return
    elsewhere = [guest for guest in look.guests if guest.recorded_on not in (None, claimant.host)]
    if elsewhere:
        yield Refusal(
            clash=Clash.GUESTS_ELSEWHERE,
            sentence=f"guests are here that are recorded on another host: {_named(elsewhere)}; set TASKVISOR_HOST to the"
            " name that this machine had; if they are strays of a host that builds elsewhere now, undefine them by hand",
        )
    unknown = [guest for guest in look.guests if guest.recorded_on is None]
    if unknown and not known.store_closed and not _is_upgrade(kept, known):
        yield Refusal(
            clash=Clash.GUESTS_UNKNOWN,
            sentence=f"guests of ours are here that this Redis knows nothing of: {_named(unknown)}; if it is the wrong"
            " Redis or key prefix, set TASKVISOR_REDIS_URL and TASKVISOR_KEY_PREFIX; if it has lost its records, restore it,"
            " or run `taskvisor rebuild --close` (where `taskvisor up` runs Redis: `taskvisor up --closed`), start the"
            " workers, and run `taskvisor rebuild --from-hosts`",
        )


def _renamed(claimant: Claimant, kept: HostIdentity, instances_before: int) -> Refusal:
    said = f"this machine is host {kept.host} by {claimant.file}, and TASKVISOR_HOST says {claimant.host}"
    back = (
        f"set TASKVISOR_HOST={kept.host} again, or give this one a TASKVISOR_STATE_DIR of its own if it is another host"
    )
    if instances_before:
        return Refusal(
            clash=Clash.RENAMED_WITH_INSTANCES,
            sentence=f"{said}; {instances_before} {_instances(instances_before)} on record under the old name: {back}",
        )
    return Refusal(
        clash=Clash.RENAMED,
        sentence=f"{said}: {back}; nothing is on record under the old name, so {ADOPT}, run once, gives it the new one",
    )


def _is_upgrade(kept: HostIdentity | None, known: KnownHost) -> bool:
    """The host reported under a version that knew no identities, and this is its first start under one that does."""
    return known.reported and known.record is None and (kept is None or not kept.registered)


def _differ(kept: str | None, found: str | None) -> bool:
    """Two that are known, and not the same: what can't be told is no proof of either."""
    return kept is not None and found is not None and kept != found


def _where(known: KnownHost, seat: Seat) -> str:
    there = None if known.record is None else known.record.seat
    if there is None:
        return "somewhere else"
    if _differ(there.machine_id, seat.machine_id):
        return f"with machine-id {there.machine_id}"
    if there.boot_id != seat.boot_id:
        return f"in another boot ({there.boot_id}) of a machine with this machine-id"
    return f"on this machine, over {there.state_dir}"


def _instances(count: int) -> str:
    return "instance is" if count == 1 else "instances are"


def _named(guests: list[GuestHere]) -> str:
    named = ", ".join(
        f"{guest.name} ({guest.id}{'' if guest.recorded_on is None else f', recorded on {guest.recorded_on}'})"
        for guest in guests[:NAMED_LIMIT]
    )
    more = len(guests) - NAMED_LIMIT
    return f"{named} and {more} more" if more > 0 else named
