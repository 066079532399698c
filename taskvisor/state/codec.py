"""Records to JSON and back. What does not parse, or a newer version wrote, is refused in words."""

from typing import TypeVar

import msgspec

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.operation import SCHEMA_VERSION, Operation

R = TypeVar("R")


def encode(record: object) -> str:
    """The record as JSON."""
    return msgspec.json.encode(record).decode()


def decode(text: str, kind: type[R], what: str) -> R:
    """The record of that kind; UnreadableRecord names `what` it was."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(f"{what} does not parse: {error}") from error


def decode_operation(text: str, operation_id: str) -> Operation:
    """The operation; UnreadableRecord when a newer version of Taskvisor wrote it."""
    operation = decode(text, Operation, f"operation {operation_id}")
    if operation.schema > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"operation {operation_id} was written by a newer version (schema {operation.schema}, this version reads up to"
            f" {SCHEMA_VERSION}); upgrade this node"
        )
    return operation
