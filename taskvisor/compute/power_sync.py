"""What the record of an instance at rest should say, given what the hypervisor says. Nova's _sync_power_states, as a function.

Invariant: nothing is started, stopped or removed because of it; a domain that is not there changes no vm_state.
"""

from dataclasses import replace

from taskvisor.model.observed import DomainFacts
from taskvisor.model.records import Instance
from taskvisor.model.states import PowerState, VmState


def synced(instance: Instance, domain: DomainFacts | None) -> Instance | None:
    """The record as it should be; None when it is so already, or when an operation is under way."""
    if instance.task_state is not None:
        return None
    power = domain.power_state if domain is not None else PowerState.NOSTATE
    vm_state = instance.vm_state
    if vm_state is VmState.ACTIVE and power.is_down:
        vm_state = VmState.STOPPED
    elif vm_state is VmState.STOPPED and power is PowerState.RUNNING:
        vm_state = VmState.ACTIVE
    wanted = replace(instance, power_state=power, vm_state=vm_state)
    return None if wanted == instance else wanted
