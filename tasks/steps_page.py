"""`python -m tasks.steps_page > docs/steps.md`: every flow and step as they are, for people. A test holds the page fresh."""

import inspect
from typing import Any

from tasks.flows import ALL_FLOWS
from taskvisor.flow.step import Flow, Step
from taskvisor.model.allowed import ALLOWED, ANY_VM
from taskvisor.model.states import InstanceAction

HEAD = """# Flows and steps

Made by `python -m tasks.steps_page`; do not edit. Each step is a Celery task on the queue of the instance's host; its
undo is the task of the same name with `.undo`. Limits: time of one try, tries, and all waits together.
"""


def steps_page() -> str:
    """The page, in Markdown."""
    return HEAD + "".join(_section(flow) for flow in ALL_FLOWS)


def _section(flow: Flow) -> str:
    notes = [_first_line(type(flow))]
    if flow.action is not InstanceAction.CREATE:
        notes.append(_asked_from(flow.name))
    if flow.preempts:
        notes.append("Stops the operation that holds the instance at its next step boundary, and takes over.")
    if flow.reschedules:
        notes.append("When a host says that the guest does not fit, it is rolled back and tried on the next.")
    rows = "".join(_row(flow, step) for step in flow.steps)
    table = "| task | holds afterwards | undo | time | tries | waits |\n|---|---|---|---|---|---|\n"
    return f"\n## {flow.name}\n\n{' '.join(notes)}\n\n{table}{rows}"


def _asked_from(operation: str) -> str:
    states = ALLOWED[operation].vm_states
    return "Asked from any state." if states == ANY_VM else f"Asked from: {', '.join(sorted(states))}."


def _row(flow: Flow, step: Step[Any]) -> str:
    undo = "nothing to take back" if type(step).undo is Step.undo else "yes"
    limits = f"{step.time_limit_s} s | {step.tries} | {step.wait_limit_s} s"
    return f"| `{flow.task_name(step.name)}` | {_first_line(type(step))} | {undo} | {limits} |\n"


def _first_line(kind: type) -> str:
    """Of its docstring, or of the class that it varies."""
    return (inspect.getdoc(kind) or "").split("\n", 1)[0]


if __name__ == "__main__":
    print(steps_page(), end="")
