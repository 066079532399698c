"""Records to JSON and back. What does not parse, or a newer version wrote, is refused in words.

A record may bear a `schema`, the number of the version that first wrote it so; operations always do. A newer version that
only adds fields leaves the number alone: unknown fields are passed over. One that changes what a field means raises it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
import structlog

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.operation import SCHEMA_VERSION, Operation

R = TypeVar("R")

OnUnreadable = Callable[[UnreadableRecord], None]
"""Is told of each record that a list leaves out because it can't be read."""

log = structlog.get_logger(__name__)


class _Stamp(msgspec.Struct):
    """The one field that every version can read of every record."""

    schema: int = SCHEMA_VERSION


def encode(record: object) -> str:
    """The record as JSON."""
    return msgspec.json.encode(record).decode()


def decode(text: str, kind: type[R], what: str) -> R:
    """The record of that kind. UnreadableRecord names `what` it was: it does not parse, or a newer version wrote it."""
    stamp = _parsed(text, _Stamp, what)
    if stamp.schema > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"{what} was written by a newer Taskvisor (schema {stamp.schema}; this one reads up to {SCHEMA_VERSION});"
            " upgrade this node"
        )
    return _parsed(text, kind, what)


def decode_operation(text: str, operation_id: str) -> Operation:
    """The operation; UnreadableRecord as in `decode`."""
    return decode(text, Operation, f"operation {operation_id}")


def decode_each(found: Iterable[tuple[str, object]], kind: type[R], on_unreadable: OnUnreadable) -> Iterator[R]:
    """The records of a list, each given as what it is and what Redis answered: its text, None or an error.

    `on_unreadable` is told of what can't be read: one such record never hides the others.
    """
    for what, answer in found:
        if answer is None:
            continue
        try:
            yield decode(_text_of(answer, what), kind, what)
        except UnreadableRecord as problem:
            on_unreadable(problem)


def decode_many(texts: Sequence[str], kind: type[R], what: str, on_unreadable: OnUnreadable) -> list[R]:
    """Records of one kind that are read by the thousand, all at once; one by one, as `decode_each`, where one can't be read."""
    joined = f"[{','.join(texts)}]"
    try:
        stamps = msgspec.json.decode(joined, type=list[_Stamp])
        if len(stamps) == len(texts) and all(stamp.schema <= SCHEMA_VERSION for stamp in stamps):
            return msgspec.json.decode(joined, type=list[kind])  # type: ignore[valid-type]  # msgspec takes it as it is
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # which of them it is, is told below
    return list(decode_each(((what, text) for text in texts), kind, on_unreadable))


def log_unreadable(problem: UnreadableRecord) -> None:
    """What is done about an unreadable record where nothing else is asked for."""
    log.error("record_unreadable", reason=str(problem))


def _text_of(answer: object, what: str) -> str:
    if isinstance(answer, Exception):
        raise UnreadableRecord(f"{what} can't be read: {answer}") from answer
    return str(answer)


def _parsed(text: str, kind: type[R], what: str) -> R:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise UnreadableRecord(
            f"{what} does not parse: {error}; if a newer Taskvisor wrote it, upgrade this node"
        ) from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UnreadableRecord(f"{what} does not parse: {error}") from error
