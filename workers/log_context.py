"""What every line that a task writes says of itself: op, instance, flow and step, whoever's logger writes it.

Bound when Celery begins a task and gone when it has ended, so that Celery's own lines about it, and those of libraries, bear it
too. Lines about a task from the parent of the pool, where nothing is bound, bear the task and its id. Anyone can send a message:
what is bound is text of bounded length, whatever a message says.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from celery.signals import task_postrun, task_prerun

from tasks.flows import ALL_FLOWS, FLOWS

TEXT_LIMIT = 255
STEPS: Mapping[str, tuple[str, str]] = {
    flow.task_name(step.name) + suffix: (flow.name, step.name)
    for flow in ALL_FLOWS
    for step in flow.steps
    for suffix in ("", ".undo")
}
"""Each step's task, to its flow and step."""


def context_of(task: str, task_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """What the lines of this task bear. The id of a request is its operation's."""
    if task not in STEPS:
        bound = {"task": task, "task_id": task_id}
        return {**bound, **_texts(op=task_id, instance=_subject_of(fields))} if task in FLOWS else bound
    flow, step = STEPS[task]
    return _texts(op=fields.get("operation"), instance=fields.get("instance"), flow=flow, step=step, task_id=task_id)


def bind_to_tasks() -> None:
    """From now on every task that this process begins binds its context."""
    task_prerun.connect(_bind, weak=False)
    task_postrun.connect(_unbind, weak=False)


def add_task_of_celery(_: object, __: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    """A processor of structlog's: what Celery says of a task elsewhere than in it bears the task's name and id."""
    data = getattr(line.get("_record"), "data", None)
    if isinstance(data, Mapping):
        for word, key in (("task", "name"), ("task_id", "id")):
            if isinstance(data.get(key), str):
                line.setdefault(word, data[key])
    return line


def _bind(task_id: str, task: Any, kwargs: Any = None, **_: object) -> None:
    structlog.contextvars.clear_contextvars()  # of a task that was killed in this process nothing may stay
    fields = kwargs if isinstance(kwargs, Mapping) else {}
    structlog.contextvars.bind_contextvars(**context_of(task.name, task_id, fields))


def _unbind(**_: object) -> None:
    structlog.contextvars.clear_contextvars()


def _subject_of(fields: Mapping[str, Any]) -> object:
    return fields.get("instance", fields.get("name"))


def _texts(**values: object) -> dict[str, str]:
    return {word: value[:TEXT_LIMIT] for word, value in values.items() if isinstance(value, str)}
