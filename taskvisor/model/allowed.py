"""Which operation may be asked of an instance in which state: the one table, and what is said when it may not.

Pure, and of what is recorded only: that another operation holds an instance is the lease's business, and that the state is
still so when the operation begins is the store's (`Admission.admit_change` compares the whole record as it was seen).

Nova's table is that of `nova/compute/api.py: check_instance_state`. Where it allows an operation during another's task, here the
lease refuses it: what is recorded without a lease is an instance at rest, or one whose delete failed half-way.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from taskvisor.model.records import Instance
from taskvisor.model.states import TaskState, VmState

AT_REST: frozenset[TaskState | None] = frozenset({None})
ANY_TASK: frozenset[TaskState | None] = frozenset({None, *TaskState})
ANY_VM = frozenset(VmState)
CHANGEABLE = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When an operation may be asked. `command` is how people ask for it; `{name}` is the instance's.

    `leads_to` is the state that it ends in when all goes well; None: the one that it began in, or the instance's end.
    """

    command: str
    vm_states: frozenset[VmState]
    task_states: frozenset[TaskState | None] = AT_REST
    must_have_launched: bool = True
    leads_to: VmState | None = None

    def allows(self, instance: Instance) -> bool:
        """The operation may be asked of the instance as it is recorded."""
        if self.must_have_launched and instance.launched_at is None:
            return False
        return instance.vm_state in self.vm_states and instance.task_state in self.task_states


DELETE = "instance.delete"

ALLOWED: Mapping[str, Rule] = {
    DELETE: Rule(command="taskvisor delete {name}", vm_states=ANY_VM, task_states=ANY_TASK, must_have_launched=False),
    "instance.start": Rule(
        command="taskvisor start {name}",
        vm_states=frozenset({VmState.STOPPED, VmState.ERROR}),
        leads_to=VmState.ACTIVE,
    ),
    "instance.stop": Rule(
        command="taskvisor stop {name}",
        vm_states=frozenset({VmState.ACTIVE, VmState.ERROR}),
        leads_to=VmState.STOPPED,
    ),
    "instance.reboot": Rule(
        command="taskvisor reboot {name}",
        vm_states=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR}),
        leads_to=VmState.ACTIVE,
    ),
    "instance.soft_delete": Rule(
        command="taskvisor delete --soft {name}",
        vm_states=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR}),
        leads_to=VmState.SOFT_DELETED,
    ),
    "instance.restore": Rule(
        command="taskvisor restore {name}", vm_states=frozenset({VmState.SOFT_DELETED}), leads_to=VmState.ACTIVE
    ),
    "instance.reclaim": Rule(
        command="taskvisor delete {name}",
        vm_states=frozenset({VmState.SOFT_DELETED}),
        task_states=frozenset({None, TaskState.DELETING}),
    ),
    "instance.snapshot": Rule(
        command="taskvisor snapshot {name} IMAGE",
        vm_states=frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED}),
    ),
    "instance.attach_volume": Rule(command="taskvisor volume attach {name} SOURCE", vm_states=CHANGEABLE),
    "instance.detach_volume": Rule(command="taskvisor volume detach {name} SOURCE", vm_states=CHANGEABLE),
    "instance.attach_interface": Rule(command="taskvisor interface attach {name} NETWORK", vm_states=CHANGEABLE),
    "instance.detach_interface": Rule(command="taskvisor interface detach {name} MAC", vm_states=CHANGEABLE),
}
"""By the operation's name. A build has no row: it is asked of no instance."""


def refusal_for(operation: str, instance: Instance) -> str | None:
    """Why the operation may not be asked of the instance now: the state that it is in, what is needed, and what to do about it.

    None when it may. KeyError for an operation that has no row.
    """
    rule = ALLOWED[operation]
    if rule.allows(instance):
        return None
    name, verb = instance.name, operation.removeprefix("instance.")
    delete = f"`{ALLOWED[DELETE].command.format(name=name)}`"
    if instance.task_state is TaskState.DELETING:
        return f"instance {name} is half deleted: its delete failed; delete it again, there is nothing else to do ({delete})"
    if instance.launched_at is None:
        return (
            f"instance {name} has never run and is {state_text(instance)}: its build failed and was kept as it was;"
            f" retry that (`taskvisor ops retry`), or delete it ({delete})"
        )
    if instance.task_state not in rule.task_states:
        return (
            f"instance {name} is {state_text(instance)} and no operation holds it; {verb} needs it at rest; see how it came"
            f" to that with `taskvisor show {name} --history`, and what is amiss with `taskvisor verify`"
        )
    wanted = ", ".join(sorted(state.value for state in rule.vm_states))
    return (
        f"instance {name} is {state_text(instance)}; {verb} needs it to be one of: {wanted}; {_advice(rule, instance)}"
    )


def state_text(instance: Instance) -> str:
    """What the instance is, and what is being done to it if anything is: active, active/powering-off."""
    return instance.vm_state.value + (f"/{instance.task_state.value}" if instance.task_state else "")


def operations_towards(wanted: frozenset[VmState], vm_state: VmState) -> tuple[str, ...] | None:
    """The fewest operations that bring an instance at rest from one state to one of the wanted; None when none do."""
    paths: deque[tuple[VmState, tuple[str, ...]]] = deque([(vm_state, ())])
    seen = {vm_state}
    while paths:
        state, path = paths.popleft()
        if state in wanted:
            return path
        for operation, rule in ALLOWED.items():
            if rule.leads_to is not None and state in rule.vm_states and rule.leads_to not in seen:
                seen.add(rule.leads_to)
                paths.append((rule.leads_to, (*path, operation)))
    return None


def _shortest_way(rule: Rule, vm_state: VmState) -> tuple[str, ...] | None:
    """To where the operation may be asked; or past it, to where it would have led, if that is no longer."""
    before = operations_towards(rule.vm_states, vm_state)
    past = operations_towards(frozenset({rule.leads_to}), vm_state) if rule.leads_to is not None else None
    return past if before is not None and past is not None and len(past) <= len(before) else before


def _advice(rule: Rule, instance: Instance) -> str:
    path = _shortest_way(rule, instance.vm_state)
    if path == ():
        return "it is so already"
    if path is None:
        return f"only `{ALLOWED[DELETE].command.format(name=instance.name)}` may be asked of it"
    commands = (f"`{ALLOWED[operation].command.format(name=instance.name)}`" for operation in path)
    end = ALLOWED[path[-1]].leads_to
    return f"{', then '.join(commands)} makes it {end.value if end else instance.vm_state.value}"
