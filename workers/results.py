"""Where Celery itself stores what became of a request: its Redis back end, with answers in words of ours.

An error of ours is an answer, not an accident, so no traceback is stored with it; a bug's stays. And what Celery would tell in
a word of its own, the name of a task that there is not, or "expired", is told with what to do.
"""

# Celery has no types for its back ends.
# mypy: allow-untyped-calls

from difflib import get_close_matches
from typing import Any

from celery.backends.redis import RedisBackend
from celery.exceptions import NotRegistered, TaskRevokedError

from tasks.requests import REQUESTS
from taskvisor.model.errors import Refused, TaskvisorError

ALIAS = "workers.results:Backend"
SHOWN_LIMIT = 80
EXPIRED = "expired"
"""Celery's reason of a request that was taken after its `expires` (celery/worker/request.py)."""
EXPIRED_TEXT = "the request expired before a worker took it, and nothing was done; send it again under the same id"


class Backend(RedisBackend):
    """In place of `redis://`; keys, channels and bytes are Celery's."""

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        result = _in_our_words(result)
        if isinstance(result, TaskvisorError):
            traceback = None
        return super().store_result(task_id, result, state, traceback=traceback, request=request, **options)


def _in_our_words(result: Any) -> Any:
    if isinstance(result, NotRegistered):
        return Refused(unknown_task_text(str(result.args[0]) if result.args else ""))
    if isinstance(result, TaskRevokedError) and result.args == (EXPIRED,):
        return TaskRevokedError(EXPIRED_TEXT)
    return result


def unknown_task_text(name: str) -> str:
    """One sentence: which task it was, and which may be meant."""
    shown = name if len(name) <= SHOWN_LIMIT else f"{name[:SHOWN_LIMIT]}…"
    near = get_close_matches(name[:SHOWN_LIMIT], REQUESTS, n=1)
    meant = f"; {near[0]} may be meant" if near else ""
    return f"task: {shown!r}: no worker here knows one of that name{meant}; docs/producers.md lists what can be asked"
