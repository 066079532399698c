"""What requests have in common that are no operations: an id that is theirs alone, and looking again when records move."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from tasks.store import Store
from taskvisor.model.errors import Conflicting, IdInUse, Refused, StoreConflict
from taskvisor.model.ids import OPERATION_ID_RULE, OperationId
from taskvisor.state.writing import Outcome

T = TypeVar("T")

LOOKS_LIMIT = 10
"""A request looks again so often when the records move under it."""


class Answers(Protocol):
    """How the result back end writes what the caller of a request is to see."""

    def answer_for(self, request_id: OperationId, result: Mapping[str, Any]) -> Outcome: ...


def require_usable_id(store: Store, request_id: OperationId) -> None:
    """Refused when it can't be an id, IdInUse when it is an operation's."""
    if not OPERATION_ID_RULE.fullmatch(request_id):
        raise Refused(f"task id: {request_id!r}: must be 1 to 128 letters, digits or ._:- (a UUID will do)")
    known = store.catalog.read_operation(request_id)
    if known is not None:
        raise IdInUse(f"task id: {request_id} is that of another request ({known.flow} of {known.instance_name})")


def looking_again(what: str, look: Callable[[], T]) -> T:
    """What the look came to, the first time that the records held still. Conflicting when they never did."""
    for _ in range(LOOKS_LIMIT):
        try:
            return look()
        except StoreConflict:
            continue
    raise Conflicting(f"{what}: the records moved {LOOKS_LIMIT} times while it was looked at; ask again")
