"""Messages that lead to a record which can't be read."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.ids import OperationId
from taskvisor.state.counters import CounterName, Counters

log = structlog.get_logger(__name__)


@contextmanager
def telling_of_unreadable(counters: Counters, operation_id: OperationId) -> Iterator[None]:
    """A message that leads to a record which can't be read is let go, and counted."""
    try:
        yield
    except UnreadableRecord as problem:
        counters.add(CounterName.MESSAGES_DROPPED_UNREADABLE_RECORD)
        log.error("message_dropped_for_unreadable_record", op=operation_id, reason=str(problem))  # noqa: TRY400
        raise
