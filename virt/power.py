"""Running, stopping and shutting down a domain of ours: look, act, look again.

libvirt serialises calls on one domain, but anybody may act between two of ours. So no act trusts an earlier look: when a
call fails, the state is read again, and only a failure that left the state as it was is the caller's.
"""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import libvirt
import structlog

from taskvisor.model.errors import Busy, Refused, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import DomainFacts
from taskvisor.model.states import PowerState
from virt.answering import QemuSilent, answer_within
from virt.libvirt_errors import is_no_domain, is_unknown_flag
from virt.lookup import is_active, look_up_ours, power_state_for, read_facts_of

log = structlog.get_logger(__name__)

LOOKS = 5
"""How often a verb looks and acts before it gives up on a domain that somebody else keeps changing."""
SETTLE_S = 0.02
"""From an act to the next look: a guest that QEMU gives up on at once has been running for a moment."""
SHUTTING_DOWN_DELAY_S = 1.0
PRESS_LIMIT_S = 10.0
"""A QEMU that is alive takes the power button in milliseconds; on a host that swaps, in seconds."""
ANSWER_LIMIT_S = 40.0
"""More than libvirt waits for a domain that another call holds, and than keep-alives take to tell of a hung libvirtd (30 s
each): who hangs is then told by who knows."""
LOG_TAIL_BYTES = 2000

_SHUTDOWN_FLAGS = (libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, 0)
"""The button and not the guest agent, which libvirt prefers by itself: the agent is the guest's and may not answer."""


def ensure_running(connection: libvirt.virConnect, instance_id: InstanceId, qemu_log_dir: Path) -> DomainFacts:
    """See `Hypervisor.ensure_running`. A guest that falls back to where it was pushed from is not pushed again."""
    pushed_from: set[int] = set()
    for _ in range(LOOKS):
        domain = look_up_ours(connection, instance_id)
        if domain is None:
            raise Refused(f"cannot start domain {instance_id}: it is not defined on this host; define it first")
        state = _state(domain)
        if power_state_for(state) is PowerState.RUNNING:
            facts = read_facts_of(connection, instance_id)
            if facts is not None and facts.power_state is PowerState.RUNNING:
                return facts
        elif state in pushed_from:
            raise Retryable(
                f"cannot keep domain {instance_id} running: right after its start it was {power_state_for(state).label} "
                f"again{_log_tail(qemu_log_dir, domain)}"
            )
        elif _acted(domain, state, partial(_push, domain, state)):
            pushed_from.add(state)
            time.sleep(SETTLE_S)
    raise Retryable(
        f"cannot start domain {instance_id}: it changed under each of {LOOKS} looks; see who else acts on it"
    )


def ensure_off(connection: libvirt.virConnect, instance_id: InstanceId) -> None:
    """See `Hypervisor.ensure_off`."""
    for _ in range(LOOKS):
        domain = look_up_ours(connection, instance_id)
        if domain is None:
            return
        state = _state(domain)
        if not is_active(domain):
            _remove_saved_memory(domain)
            return
        _acted(domain, state, domain.destroy)
    raise Retryable(f"cannot stop domain {instance_id}: it ran again after each of {LOOKS} stops; see who starts it")


def request_shutdown(connection: libvirt.virConnect, instance_id: InstanceId) -> None:
    """See `Hypervisor.request_shutdown`. Behind a QEMU that hangs is a guest that hears as little as one that ignores it."""
    domain = look_up_ours(connection, instance_id)
    if domain is None:
        return
    state = _state(domain)
    if not is_active(domain):
        return
    press = partial(answer_within, PRESS_LIMIT_S, f"shut down domain {instance_id}", partial(_press, domain))
    try:
        _acted(domain, state, press)
    except QemuSilent as silence:
        log.warning("shutdown_not_heard", instance_id=instance_id, reason=str(silence))


def _press(domain: libvirt.virDomain) -> None:
    call_with_known_flags(domain.shutdownFlags, _SHUTDOWN_FLAGS)


def call_with_known_flags(call: Callable[[int], object], choices: tuple[int, ...]) -> None:
    """Call with the first choice of flags that the driver knows. One that it does not know is refused before anything is done."""
    for flags in choices[:-1]:
        try:
            call(flags)
        except libvirt.libvirtError as error:
            if not is_unknown_flag(error):
                raise
        else:
            return
    call(choices[-1])


def _acted(domain: libvirt.virDomain, state: int, act: Callable[[], object]) -> bool:
    """True when the act succeeded; False when it failed because the domain is no longer in the state that it was decided in.

    Else the error. The state is the one from before the decision: one that is read after it may be the changed one already.
    """
    try:
        act()
    except libvirt.libvirtError as error:
        if is_no_domain(error) or _state(domain) != state:
            return False
        raise
    return True


def _push(domain: libvirt.virDomain, state: int) -> None:
    match state:
        case libvirt.VIR_DOMAIN_PAUSED:
            answer_within(ANSWER_LIMIT_S, f"resume domain {domain.UUIDString()}", domain.resume)
        case libvirt.VIR_DOMAIN_PMSUSPENDED:
            answer_within(ANSWER_LIMIT_S, f"wake domain {domain.UUIDString()}", domain.pMWakeup)
        case libvirt.VIR_DOMAIN_CRASHED:  # QEMU is there and the guest is dead: end it, start it at the next look
            domain.destroy()
        case libvirt.VIR_DOMAIN_SHUTDOWN:
            raise Busy(
                f"cannot start domain {domain.UUIDString()} yet: it is just shutting down",
                delay_s=SHUTTING_DOWN_DELAY_S,
            )
        case _:
            domain.create()


def _state(domain: libvirt.virDomain) -> int:
    """libvirt's number of the state; that of a domain that is off when it has vanished."""
    try:
        state: int = domain.state()[0]
    except libvirt.libvirtError as error:
        if is_no_domain(error):
            return int(libvirt.VIR_DOMAIN_SHUTOFF)
        raise
    return state


def _remove_saved_memory(domain: libvirt.virDomain) -> None:
    try:
        if domain.hasManagedSaveImage():
            domain.managedSaveRemove()
    except libvirt.libvirtError as error:
        if not is_no_domain(error):
            raise


def _log_tail(qemu_log_dir: Path, domain: libvirt.virDomain) -> str:
    with contextlib.suppress(OSError), (qemu_log_dir / f"{domain.name()}.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        return f"; QEMU's log ends: {log.read().decode(errors='replace').strip()}"
    return ""
