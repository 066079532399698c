"""Whether a message from a queue can be given to Celery without harm.

Anyone who can reach Redis can put bytes on a queue, and stock Celery 5.7 trusts them: a message without a content type
ends the worker, one without an id makes it reconnect for ever, one without properties is lost without a trace. Here every
message is judged before kombu sees it, in terms of Celery's message protocol 2
(https://docs.celeryq.dev/en/stable/internals/protocol.html): accepted, with what is optional filled in, or refused with a
reason that names the part and never quotes its content.

This module knows bytes and JSON. It must never know Redis, queues other than by name, or what the tasks are.
"""

# kombu ships types for some of its modules; serialization is not one of them.
# mypy: allow-untyped-calls

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.serialization import loads as loads_content
from kombu.transport.virtual.base import Base64
from kombu.utils.json import loads as loads_json

MAX_MESSAGE_BYTES = 1024 * 1024
"""Celery's own messages take 1 to 8 KB; a spec with user data some tens. More is a mistake or an attack."""

MAX_ANSWERED_BYTES = 16 * MAX_MESSAGE_BYTES
"""Of one that is too long so much is still read, for the id of who is to be told."""

MAX_DEPTH = 64
"""Nested lists and objects. Python's own limit is near 1000, and is hit later, by code that does not expect it."""

MAX_NAME_CHARS = 255
"""Of ids and task names: they become keys, metric labels and log fields."""

ACCEPTED_CONTENT = ("application/json",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """A message that Celery can take."""

    payload: dict[str, object]
    """What kombu builds its Message from; `properties` and their `delivery_info` are there, though the sender left them out."""
    body: list[object]
    """Decoded: args, kwargs, embed; `embed` is an object."""
    eta: datetime | None

    @property
    def request_id(self) -> str | None:
        """As `Malformed` has it."""
        return _request_id_of(self.payload)


@dataclass(frozen=True, kw_only=True, slots=True)
class Malformed:
    """A message that Celery can't take, and why, in words for its sender and for who reads the dead-letter list."""

    reason: str
    request_id: str | None = None
    """Under which its sender waits for a result; None where none can be read, or he wants none."""


class _Refused(Exception):
    """Ends the judgement of one message; never leaves this module."""


def check_envelope(
    raw: bytes,
    *,
    queue: str,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    accept: Collection[str] = ACCEPTED_CONTENT,
) -> Envelope | Malformed:
    """Judge one message as it came from `queue`. Never raises, whatever the bytes."""
    try:
        _require(len(raw) <= max_message_bytes, f"message: {len(raw)} bytes, more than {max_message_bytes}")
        payload = _mapping(_parsed(raw, "message"), "message")
        headers = _checked_headers(payload)
        properties = _checked_properties(payload, queue)
        body = _checked_body(payload, properties, accept)
        return Envelope(payload=payload, body=body, eta=_moment(headers, "eta"))
    except _Refused as refused:
        return Malformed(reason=str(refused), request_id=_request_id_in(raw))


def check_broadcast(raw: bytes, *, is_control: bool) -> Malformed | None:
    """Judge one message from a PUB/SUB channel; None if kombu can take it. `is_control`: it is a command to workers."""
    try:
        payload = _mapping(_parsed(raw, "message"), "message")
        headers = _mapping(payload.get("headers") or {}, "headers")
        properties = _checked_properties(payload, "")
        _field(headers, "clock", int, "headers")
        _text(properties.get("delivery_tag"), "properties.delivery_tag")
        if is_control:
            _check_command(_decoded_body(payload, properties, ACCEPTED_CONTENT))
    except _Refused as refused:
        return Malformed(reason=str(refused))
    return None


def _request_id_in(raw: bytes) -> str | None:
    if len(raw) > MAX_ANSWERED_BYTES:
        return None
    try:
        payload = loads_json(raw)
    except Exception:  # noqa: BLE001 - as in `_parsed`
        return None
    return _request_id_of(payload) if isinstance(payload, dict) else None


def _request_id_of(payload: Mapping[str, object]) -> str | None:
    """Protocol 1, which is not taken, has it in the properties."""
    headers, properties = (_or_empty(payload.get(part)) for part in ("headers", "properties"))
    if headers.get("ignore_result") is True:
        return None
    try:
        return _name(headers.get("id") or properties.get("correlation_id"), "id")
    except _Refused:
        return None


def _or_empty(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _parsed(data: bytes, what: str) -> object:
    try:
        value: object = loads_json(data)
    # Whatever the parser or its hooks for dates, UUIDs and decimals raise (RecursionError, KeyError and ArithmeticError
    # among them), it means one thing: these bytes are no JSON of ours.
    except Exception as error:
        raise _Refused(f"{what}: not JSON ({type(error).__name__})") from error
    _check_depth(value, data, what)
    return value


def _check_depth(value: object, data: bytes, what: str) -> None:
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:  # spares nearly every message the walk
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise _Refused(f"{what}: nested deeper than {MAX_DEPTH} levels")


def _inner(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_OPTIONAL_HEADERS: Mapping[str, type] = {
    "lang": str,
    "shadow": str,
    "root_id": str,
    "parent_id": str,
    "group": str,
    "meth": str,
    "origin": str,
    "argsrepr": str,
    "kwargsrepr": str,
    "retries": int,
    "group_index": int,
    "replaced_task_nesting": int,
    "ignore_result": bool,
    "stamps": dict,
}


def _checked_headers(payload: dict[str, object]) -> dict[str, object]:
    headers = _mapping(payload.get("headers"), "headers")
    for name in ("id", "task"):
        _name(headers.get(name), f"headers.{name}")
    for name, kind in _OPTIONAL_HEADERS.items():
        if headers.get(name, 0) is None:
            del headers[name]  # Celery has a default for what is absent, and compares what is null
        _field(headers, name, kind, "headers")
    if headers.get("compression"):
        raise _Refused("headers.compression: compressed messages are not taken")
    _check_stamps(headers)
    _check_time_limits(headers.get("timelimit"))
    for name in ("eta", "expires"):
        _moment(headers, name)
    return headers


def _check_stamps(headers: dict[str, object]) -> None:
    stamped = headers.get("stamped_headers") or []
    if not isinstance(stamped, list) or not all(isinstance(name, str) for name in stamped):
        raise _Refused("headers.stamped_headers: not a list of strings")


def _check_time_limits(limits: object) -> None:
    if limits is None:
        return
    if not isinstance(limits, list) or len(limits) != 2:
        raise _Refused("headers.timelimit: not a pair")
    for limit_s in limits:
        if limit_s is None:
            continue
        if not isinstance(limit_s, int | float) or not math.isfinite(limit_s) or limit_s < 0:
            raise _Refused("headers.timelimit: neither null nor a number of seconds")


def _moment(headers: dict[str, object], name: str) -> datetime | None:
    value = headers.get(name)
    if value is None:
        return None
    if not value or not isinstance(value, str | datetime):
        raise _Refused(f"headers.{name}: not an ISO 8601 time")
    try:
        # Celery's own two functions: what they take here, they take in the worker.
        moment: datetime = maybe_make_aware(maybe_iso8601(value)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise _Refused(f"headers.{name}: not an ISO 8601 time") from error
    if not 1970 < moment.year < 9999:  # at the ends of the calendar a change of time zone overflows
        raise _Refused(f"headers.{name}: the year {moment.year}")
    return moment


def _checked_properties(payload: dict[str, object], queue: str) -> dict[str, object]:
    if payload.get("properties") is None:
        payload["properties"] = {}
    properties = _mapping(payload["properties"], "properties")
    if properties.get("delivery_info") is None:
        properties["delivery_info"] = {}
    delivery_info = _mapping(properties["delivery_info"], "properties.delivery_info")
    delivery_info.setdefault("exchange", "")
    delivery_info.setdefault("routing_key", queue)
    for name in ("exchange", "routing_key"):
        _field(delivery_info, name, str, "properties.delivery_info")
    for name in ("reply_to", "correlation_id"):
        _field(properties, name, str, "properties")
    _field(properties, "priority", int, "properties")
    if properties.get("body_encoding") not in (None, "base64", "utf-8"):
        raise _Refused("properties.body_encoding: neither base64 nor utf-8")
    return properties


def _checked_body(payload: dict[str, object], properties: dict[str, object], accept: Collection[str]) -> list[object]:
    body = _decoded_body(payload, properties, accept)
    if not isinstance(body, list) or len(body) != 3:
        raise _Refused("body: not [args, kwargs, embed]")
    args, kwargs, embed = body
    if not isinstance(args, list):
        raise _Refused("body: args is not a list")
    _mapping(kwargs, "body: kwargs")
    _check_embed(_mapping({} if embed is None else embed, "body: embed"))
    return [args, kwargs, embed or {}]


def _decoded_body(payload: dict[str, object], properties: dict[str, object], accept: Collection[str]) -> object:
    content_type, content_encoding = payload.get("content-type"), payload.get("content-encoding")
    if content_type not in accept:
        raise _Refused("content-type: missing" if content_type is None else "content-type: not accepted here")
    if content_encoding is not None and not isinstance(content_encoding, str):
        raise _Refused("content-encoding: not a string")
    body = payload.get("body")
    if not isinstance(body, str) or not body:
        raise _Refused("body: missing, or not a string")
    try:
        data: bytes = Base64().decode(body) if properties.get("body_encoding") == "base64" else body.encode()
        value: object = loads_content(data, content_type, content_encoding, accept=accept)
    except Exception as error:
        raise _Refused(f"body: can't be decoded ({type(error).__name__})") from error
    _check_depth(value, data, "body")
    return value


def _check_embed(embed: dict[str, object]) -> None:
    for name in ("callbacks", "errbacks", "chain"):
        signatures = embed.get(name) or []
        if not isinstance(signatures, list):
            raise _Refused(f"body: embed.{name} is not a list")
        for signature in signatures:
            _check_signature(signature, name)
    if embed.get("chord") is not None:
        _check_signature(embed["chord"], "chord")


def _check_signature(signature: object, name: str) -> None:
    if not isinstance(signature, dict) or not isinstance(signature.get("task"), str):
        raise _Refused(f"body: embed.{name} holds what is no task signature")


def _check_command(command: object) -> None:
    command = _mapping(command, "command")
    _name(command.get("method"), "command.method")
    _field(command, "arguments", dict, "command")
    _field(command, "destination", list, "command")
    for name in ("pattern", "matcher", "ticket"):
        _field(command, name, str, "command")
    _field(command, "reply_to", dict, "command")
    reply_to = command.get("reply_to")
    if isinstance(reply_to, dict) and reply_to:
        for name in ("exchange", "routing_key"):
            _text(reply_to.get(name), f"command.reply_to.{name}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Refused(otherwise)


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Refused(f"{what}: {'missing' if value is None else type(value).__name__ + ', not an object'}")
    return value


def _field(container: dict[str, object], name: str, kind: type, what: str) -> None:
    value = container.get(name)
    if value is None:
        return
    if kind is str:
        _text(value, f"{what}.{name}")
    elif not isinstance(value, kind):
        raise _Refused(f"{what}.{name}: {type(value).__name__}, not {kind.__name__}")


def _name(value: object, what: str) -> str:
    name = _text(value, what)
    if not name:
        raise _Refused(f"{what}: empty")
    if len(name) > MAX_NAME_CHARS:
        raise _Refused(f"{what}: longer than {MAX_NAME_CHARS} characters")
    return name


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _Refused(f"{what}: {'missing' if value is None else type(value).__name__ + ', not a string'}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair; no key or log line can hold one
        raise _Refused(f"{what}: not Unicode text") from error
    return value
