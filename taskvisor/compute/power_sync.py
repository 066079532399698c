"""What the record of an instance at rest should say, given what the hypervisor says: Nova's _sync_power_states, as a table.

The hypervisor is the authority for power: the record follows it, so that nobody is shown a guest as off that runs. Where Nova
stops such guests by its API, an operator may want that too (`PowerPolicy.STOP`): the record follows all the same, and an
ordinary stop is asked for, with its operation and its timeline.

An ACTIVE or PAUSED instance whose domain is gone stays so for ever in Nova. Here a first look notes NOSTATE, and a second
one, a period later, puts the instance into ERROR with a fault that says what to do; when the domain is back, so is its state.

Invariant: nothing is started, stopped or removed here, and what could not be asked is no look at all.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from taskvisor.model.ids import OperationId
from taskvisor.model.observed import DomainFacts
from taskvisor.model.records import Fault, Instance
from taskvisor.model.states import PowerPolicy, PowerState, VmState

GONE = "DomainGone"
"""The code of the fault of an instance whose domain was seen to be gone, twice."""
STEP = "sync_power_states"

RUNNING, PAUSED, SUSPENDED = PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED
DOWN, NOSTATE = frozenset({PowerState.SHUTDOWN, PowerState.CRASHED}), PowerState.NOSTATE
AWAKE = frozenset({RUNNING, SUSPENDED})
ANY = frozenset(PowerState)


class Reaction(StrEnum):
    """What follows besides the record's power state, which is always noted."""

    NOTHING = "nothing"
    FOLLOW = "follow"  # the vm_state becomes that of the row
    STOP = "stop"  # by the policy: as FOLLOW or NOTHING, and a stop is asked for where Nova would
    WARN = "warn"  # it is logged: somebody should look
    GONE = "gone"  # it is noted; confirmed by a second look, the instance is in error


@dataclass(frozen=True, kw_only=True)
class Row:
    """For these vm_states and power states. `becomes` None: the vm_state stays."""

    vm_states: frozenset[VmState]
    powers: frozenset[PowerState]
    reaction: Reaction
    becomes: VmState | None = None


def _row(
    vm_states: set[VmState], powers: frozenset[PowerState], reaction: Reaction, becomes: VmState | None = None
) -> Row:
    return Row(vm_states=frozenset(vm_states), powers=powers, reaction=reaction, becomes=becomes)


ACTIVE, STOPPED = VmState.ACTIVE, VmState.STOPPED

MATRIX: tuple[Row, ...] = (
    _row({ACTIVE}, frozenset({RUNNING}), Reaction.NOTHING),
    _row({ACTIVE}, DOWN, Reaction.FOLLOW, STOPPED),  # Nova calls its stop API, with the same end
    _row(
        {ACTIVE}, frozenset({PAUSED}), Reaction.NOTHING
    ),  # transient: a migration, a snapshot, an error of its storage
    _row({ACTIVE}, frozenset({SUSPENDED}), Reaction.STOP),  # it sleeps; Nova stops it. Left alone, it can be rebooted
    _row({ACTIVE, VmState.PAUSED}, frozenset({NOSTATE}), Reaction.GONE),
    _row({STOPPED}, DOWN | {NOSTATE}, Reaction.NOTHING),  # a start defines it anew
    _row({STOPPED}, AWAKE, Reaction.STOP, ACTIVE),  # somebody has started it; Nova stops it
    _row({STOPPED}, frozenset({PAUSED}), Reaction.NOTHING),  # as a guest that is being started by hand begins
    _row({VmState.PAUSED}, DOWN, Reaction.FOLLOW, STOPPED),  # Nova: force_stop, with the same end
    _row({VmState.PAUSED}, frozenset({RUNNING}), Reaction.FOLLOW, ACTIVE),  # somebody has resumed it
    _row({VmState.PAUSED}, frozenset({PAUSED, SUSPENDED}), Reaction.NOTHING),
    _row({VmState.SUSPENDED}, frozenset({RUNNING}), Reaction.FOLLOW, ACTIVE),  # likewise
    _row({VmState.SUSPENDED}, ANY - {RUNNING}, Reaction.NOTHING),
    _row({VmState.SOFT_DELETED, VmState.DELETED}, frozenset({PowerState.SHUTDOWN, NOSTATE}), Reaction.NOTHING),
    _row({VmState.SOFT_DELETED, VmState.DELETED}, ANY - {PowerState.SHUTDOWN, NOSTATE}, Reaction.WARN),
    _row(
        {VmState.BUILDING, VmState.RESCUED, VmState.RESIZED, VmState.ERROR, VmState.SHELVED, VmState.SHELVED_OFFLOADED},
        ANY,
        Reaction.NOTHING,
    ),
)
"""Each vm_state and power state is in exactly one row."""


class Look(StrEnum):
    """What a look may conclude from a domain that is not there."""

    FIRST = "first"  # any: because of an event, or at a host's start
    CONFIRMING = "confirming"  # one of the periodic ones, of which the next comes half a period later at the earliest


@dataclass(frozen=True, kw_only=True)
class Synced:
    """`record` replaces the instance's. `stop`: an ordinary stop is to be asked for. `warn`: somebody should look."""

    record: Instance
    stop: bool = False
    warn: bool = False

    @property
    def gone(self) -> bool:
        """The instance is in error from now on, for its domain is gone."""
        return self.record.fault is not None and self.record.fault.code == GONE


def synced(
    instance: Instance,
    domain: DomainFacts | None,
    *,
    policy: PowerPolicy = PowerPolicy.FOLLOW,
    look: Look = Look.FIRST,
    now: float = 0.0,
) -> Synced | None:
    """What is to be written of the instance, and asked; None when nothing is, or when an operation is under way.

    `now` is when a fault is said to have been noticed.
    """
    if instance.task_state is not None:
        return None
    power = domain.power_state if domain is not None else NOSTATE
    if is_gone_by_record(instance):
        return _healed(instance, power)
    row = row_for(instance.vm_state, power)
    noted = replace(instance, power_state=power)
    if row.reaction is Reaction.GONE:
        seen_before = instance.power_state is NOSTATE and look is Look.CONFIRMING
        return Synced(record=_gone(noted, now)) if seen_before else _unless_same(instance, noted)
    if row.becomes is not None:
        noted = replace(noted, vm_state=row.becomes)
    if row.reaction is Reaction.STOP and policy is PowerPolicy.STOP:
        return Synced(record=noted, stop=True)
    return _unless_same(instance, noted, warn=row.reaction is Reaction.WARN)


def row_for(vm_state: VmState, power: PowerState) -> Row:
    """The one row for them."""
    return next(row for row in MATRIX if vm_state in row.vm_states and power in row.powers)


def _unless_same(instance: Instance, noted: Instance, *, warn: bool = False) -> Synced | None:
    return None if noted == instance else Synced(record=noted, warn=warn)


def is_gone_by_record(instance: Instance) -> bool:
    """Whether it is in error because its domain was seen to be gone."""
    return instance.vm_state is VmState.ERROR and instance.fault is not None and instance.fault.code == GONE


def _healed(instance: Instance, power: PowerState) -> Synced | None:
    """Its domain is back, as it is now."""
    if power is NOSTATE:
        return None
    vm_state = {RUNNING: ACTIVE, SUSPENDED: ACTIVE, PAUSED: VmState.PAUSED}.get(power, STOPPED)
    return Synced(record=replace(instance, power_state=power, vm_state=vm_state, fault=None))


def _gone(noted: Instance, now: float) -> Instance:
    message = (
        f"its domain is not on host {noted.host} any more, by two looks a period apart; its disks, addresses and claim are left"
        f" as they are: `taskvisor start {noted.name}` defines it anew and starts it, `taskvisor delete {noted.name}` gives all"
        " of it back; if its domain comes back by itself, so does its state"
    )
    fault = Fault(code=GONE, message=message, step=STEP, operation_id=OperationId(""), at=now)
    return replace(noted, vm_state=VmState.ERROR, fault=fault)
