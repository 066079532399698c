"""The record of one guest, out of all that its host has of it. Pure.

The copy beside the disks is the whole record as it was when it changed last; the domain's metadata are those parts of it that
a definition needs, as they were when it was defined. Which devices the guest has, the domain itself says: a port or volume that
only one of the two knows is in the record if the domain has the device. What the guest does now, the hypervisor says.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from taskvisor.model.holdings import GuestHeld
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VmState

FOLLOWS_POWER = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPED, VmState.BUILDING})
"""States of which the hypervisor knows best. Of any other (an error, a soft deletion) only the record knew."""

D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """The record, at rest, and what should be known of it. `instance` None: there is none to be had, for those reasons."""

    instance: Instance | None
    remarks: tuple[str, ...] = ()


def recovered_from(held: GuestHeld, host: HostName) -> Recovered:
    """The guest's record on the host that has it."""
    base = held.copy or held.defined
    if base is None:
        return Recovered(instance=None, remarks=() if held.problem is None else (held.problem,))
    whole = _with_devices(base, held)
    return Recovered(
        instance=replace(
            whole,
            host=host,
            vm_state=_vm_state_of(held),
            task_state=None,
            server_group=None,
            power_state=PowerState.NOSTATE if held.domain is None else held.domain.power_state,
        ),
        remarks=tuple(_remarks(held, whole, host)),
    )


def _with_devices(base: Instance, held: GuestHeld) -> Instance:
    """With what the definition says of where and how the guest was built, and the devices that the domain has."""
    defined, copy = held.defined, held.copy
    if defined is None:
        return base
    ports = _merged(() if copy is None else copy.ports, defined.ports, key=lambda port: port.id)
    volumes = _merged(() if copy is None else copy.volumes, defined.volumes, key=lambda volume: volume.source)
    return replace(
        base,
        virt_type=defined.virt_type or base.virt_type,
        machine=defined.machine or base.machine,
        disk_backend=defined.disk_backend or base.disk_backend,
        ports=tuple(sorted((port for port in ports if port.mac in held.macs), key=lambda port: port.index)),
        volumes=tuple(volume for volume in volumes if volume.serial in held.serials),
    )


def _merged(first: Iterable[D], second: Iterable[D], *, key: Callable[[D], str]) -> tuple[D, ...]:
    """The first, and those of the second that are none of them."""
    first = tuple(first)
    known = {key(one) for one in first}
    return (*first, *(one for one in second if key(one) not in known))


def _vm_state_of(held: GuestHeld) -> VmState:
    noted = None if held.copy is None else held.copy.vm_state
    if noted is not None and (noted not in FOLLOWS_POWER or held.domain is None):
        return noted
    return VmState.STOPPED if held.domain is None else held.domain.power_state.vm_state


def _remarks(held: GuestHeld, whole: Instance, host: HostName) -> Iterator[str]:
    base = held.copy or held.defined
    if held.problem is not None:
        yield held.problem
    if base is not None and base.host != host:
        yield f"it says of itself that it is on host {base.host}, and is on {host}"
    if base is not None and base.server_group is not None:
        yield f"it was in server group {base.server_group}, which no host knows: it is in none now"
    if held.domain is None:
        yield "it has no domain: hard reboot it, or delete it"
        return
    if held.copy is None:
        yield "only its domain's metadata tell of it: project, fault and launch time are not known"
    for mac in held.macs:
        if mac not in {port.mac for port in whole.ports}:
            yield f"its domain has a NIC {mac} that no port is known for"
