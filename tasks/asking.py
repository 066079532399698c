"""How periodic work asks for operations: as any producer does, by the entry task, and so with record and timeline."""

from collections.abc import Callable
from uuid import uuid4

from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Facts

Ask = Callable[[str, OperationId, Facts], None]
"""Sends the entry task of that name, under that operation id, with these fields. Once too often is harmless."""


def new_operation_id() -> OperationId:
    """An id that nobody has, for what may be asked anew each time."""
    return OperationId(str(uuid4()))
