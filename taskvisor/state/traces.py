"""Which trace of its caller's an operation belongs to: one string each, written only where traces are told.

Beside the record and not in it: an operation without traces costs nothing, and a version that knows none loses none. It expires
by itself. Must never know what a trace is; what it holds came from outside and is checked by who reads it.
"""

from typing import TYPE_CHECKING

from taskvisor.model.ids import OperationId
from taskvisor.state.connection import asking
from taskvisor.state.keys import Keys

if TYPE_CHECKING:
    import redis


class Traces:
    """The traces that callers named."""

    def __init__(self, client: "redis.Redis", keys: Keys, *, keep_s: int) -> None:
        self._client = client
        self._keys = keys
        self._keep_s = keep_s

    def note(self, operation_id: OperationId, parent: str) -> None:
        """The operation's caller named this parent; the first that was noted stays. CannotAsk when Redis is silent."""
        with asking("note the trace of an operation"):
            self._client.set(self._keys.trace(operation_id), parent, nx=True, ex=self._keep_s)

    def read(self, operation_id: OperationId) -> str | None:
        """The parent that the caller named, if one was. CannotAsk when Redis is silent."""
        with asking("read the trace of an operation"):
            found = self._client.get(self._keys.trace(operation_id))
        return None if found is None else str(found)
