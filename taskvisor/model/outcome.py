"""What stands in Redis under a request's id for its caller: Celery's record of a result, as its Redis back end writes it in JSON.

Celery and the journal write it; this says what it looks like to who reads it without Celery (docs/producers.md), and what is
written when a message is refused before Celery has seen it.
See https://docs.celeryq.dev/en/stable/internals/reference/celery.backends.base.html, `Backend._get_result_meta`.
"""

from typing import Any, NotRequired, TypedDict

RESULT_KEY_PREFIX = "celery-task-meta-"
"""Celery's `Backend.task_keyprefix`; a test holds it to that."""


class ErrorRecord(TypedDict):
    """An error: its class, and what it says. `exc_message` is one sentence in a list. `exc_module` may be passed over."""

    exc_type: str
    exc_message: list[Any]
    exc_module: str


class OutcomeRecord(TypedDict):
    """What became of a request. What `result` holds goes by `status`. `date_done` is ISO 8601, in UTC; None: it goes on.

    `traceback` is that of a bug of Taskvisor's, or None. `children`, `parent_id` and `group_id` are Celery's own and mean
    nothing here.
    """

    status: str
    result: Any
    traceback: str | None
    children: list[Any]
    date_done: str | None
    task_id: str
    parent_id: NotRequired[str | None]
    group_id: NotRequired[str | None]


def result_key_for(request_id: str) -> str:
    """The key that the record is stored under, and the channel that each new one is published on."""
    return f"{RESULT_KEY_PREFIX}{request_id}"
