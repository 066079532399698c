"""`python -m tasks.states_page > docs/states.md`: the words for what instances are, and what may be asked of them when.

A test holds the page fresh.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from tasks.soft_delete import RECLAIM
from taskvisor.model import architecture, hypervisor_type, vm_mode
from taskvisor.model.allowed import ALLOWED, ANY_TASK, AT_REST, DELETE, Rule
from taskvisor.model.architecture import Architecture
from taskvisor.model.build_result import BuildResult
from taskvisor.model.cpu_words import CpuMatch, CpuMode, FeaturePolicy
from taskvisor.model.history import MOVES_KEPT
from taskvisor.model.hypervisor_type import HypervisorType
from taskvisor.model.states import InstanceAction, PowerState, TaskState, VmState
from taskvisor.model.vm_mode import VmMode

HEAD = """# States, and what may be asked in them

Made by `python -m tasks.states_page`; do not edit. All words are Nova's, with Nova's values.

An instance has a vm_state (what it is), a task_state (what is being done to it; none: it is at rest) and a power_state (what its
hypervisor said last). One operation at a time holds an instance: another is refused as `Conflicting` while it does, whatever the
states; a delete takes over. Of an instance that no operation holds, this table decides, and the store compares: the operation
begins only if the whole record is still what was looked at. What is refused is told the state, the states that it needs, and
the command that leads there.
"""

MOVES = f"""
## How it came to be so

Each move of the three states is kept with the instance, in the transaction that makes it: when, by whom (the operation, its flow
and step; `power_sync` or `guest_event` where the record follows the hypervisor) and why. The last {MOVES_KEPT} are kept, until
the instance is gone: `taskvisor show NAME --history`, or `read_history` of the client.
"""


def states_page() -> str:
    """The page, in Markdown."""
    return "\n".join((HEAD, *_table(), MOVES, "## The words\n", *_words())) + "\n"


def _table() -> Iterator[str]:
    yield "| operation | " + " | ".join(state.value for state in VmState) + " | task_state | leads to |"
    yield "|---" * (len(VmState) + 3) + "|"
    for operation, rule in ALLOWED.items():
        cells = ("yes" if state in rule.vm_states else "" for state in VmState)
        yield f"| `{operation}` | {' | '.join(cells)} | {_task_states(rule)} | {_end_of(operation, rule)} |"
    yield ""
    yield "All but a delete need an instance that has run at least once. `instance.build` is asked of no instance."
    yield "Nova's actions that have no row have no operation here."


def _end_of(operation: str, rule: Rule) -> str:
    if rule.leads_to is not None:
        return rule.leads_to.value
    return "its end" if operation in (DELETE, RECLAIM) else "as it was"


def _task_states(rule: Rule) -> str:
    if rule.task_states == AT_REST:
        return "none"
    return (
        "any" if rule.task_states == ANY_TASK else " or ".join(sorted(str(one or "none") for one in rule.task_states))
    )


def _words() -> Iterator[str]:
    power = (f"{state.label} ({int(state)})" for state in PowerState)
    yield "| word | values | also called |"
    yield "|---|---|---|"
    yield _row("vm_state", VmState)
    yield _row("task_state", TaskState)
    yield f"| power_state | {', '.join(power)} | |"
    yield _row("instance action", InstanceAction)
    yield _row("build result", BuildResult)
    yield _row("architecture", Architecture, architecture.ALIASES)
    yield _row("hypervisor type", HypervisorType, hypervisor_type.ALIASES)
    yield _row("vm mode", VmMode, vm_mode.ALIASES)
    yield _row("CPU mode", CpuMode)
    yield _row("CPU match", CpuMatch)
    yield _row("policy of a CPU's flag", FeaturePolicy)
    yield ""
    yield "Architectures, hypervisor types and vm modes are read in any case. `maximum` is libvirt's, and not Nova's."


def _row(word: str, values: Iterable[Enum], aliases: Mapping[str, Enum] | None = None) -> str:
    also = ", ".join(f"{alias} = {value.value}" for alias, value in (aliases or {}).items())
    return f"| {word} | {', '.join(str(value.value) for value in values)} | {also} |"


if __name__ == "__main__":
    print(states_page(), end="")
