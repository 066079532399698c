"""What Celery can't take is named and refused; what is optional is filled in."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given

from workers.envelope import Envelope, Malformed, check_broadcast, check_envelope

from .conftest import message
from .rubbish import messages


def _body(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


DEEP = "[" * 100_000 + "]" * 100_000
NESTED = json.dumps([["x"], {"a": eval("[" * 80 + "]" * 80)}, {}])  # noqa: S307

MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "message: not JSON"),
    "no JSON": (b"hello", "message: not JSON"),
    "no UTF-8": (b"\xff\xfe\x00", "message: not JSON"),
    "a null byte": (b"\x00", "message: not JSON"),
    "a null byte in the middle": (message()[:20] + b"\x00" + message()[20:], "message: not JSON"),
    "no UTF-8 in the middle": (message()[:20] + b"\xff" + message()[20:], "message: not JSON"),
    "a number of 5000 digits": (
        message(headers__retries=0).replace(b'"retries": 0', b'"retries": ' + b"9" * 5000),
        "message",
    ),
    "cut off": (message()[:-20], "message: not JSON"),
    "a list": (b"[]", "message: list"),
    "a string": (b'"task"', "message: str"),
    "null": (b"null", "message: missing"),
    "too deep": (DEEP.encode(), "message: not JSON (RecursionError)"),
    "an unknown type marker": (b'{"__type__": "bomb", "__value__": 1}', "message: not JSON"),
    "a type marker with a wrong value": (b'{"__type__": "uuid", "__value__": {"hexe": "1"}}', "message: not JSON"),
    "too big": (message("x" * 1_200_000), "message: 1"),
    "ten megabytes": (message("x" * 10_000_000), "message: 13"),
    "no headers": (message(without="headers"), "headers: missing"),
    "headers of a list": (message(headers=["task"]), "headers: list"),
    "no id": (message(without="headers.id"), "headers.id: missing"),
    "a numeric id": (message(headers__id=7), "headers.id: int"),
    "an empty id": (message(headers__id=""), "headers.id: empty"),
    "an endless id": (message(headers__id="x" * 1000), "headers.id: longer"),
    "half a surrogate pair as an id": (message(headers__id="\ud800"), "headers.id: not Unicode"),
    "no task": (message(without="headers.task"), "headers.task: missing"),
    "a null task": (message(headers__task=None), "headers.task: missing"),
    "a task of a list": (message(headers__task=["probe.note"]), "headers.task: list"),
    "a wrong eta": (message(headers__eta="tomorrow"), "headers.eta: not an ISO"),
    "an empty eta": (message(headers__eta=""), "headers.eta: not an ISO"),
    "a numeric eta": (message(headers__eta=5), "headers.eta: not an ISO"),
    "an eta at the end of time": (message(headers__eta="9999-12-31T23:59:59-12:00"), "headers.eta"),
    "a wrong expires": (message(headers__expires="soon"), "headers.expires: not an ISO"),
    "a list as expires": (message(headers__expires=[1]), "headers.expires: not an ISO"),
    "a time limit alone": (message(headers__timelimit=[3]), "headers.timelimit: not a pair"),
    "a time limit of a string": (message(headers__timelimit=["3", None]), "headers.timelimit: neither"),
    "a negative time limit": (message(headers__timelimit=[-3, None]), "headers.timelimit: neither"),
    "an endless time limit": (message(headers__timelimit=[float("inf"), None]), "headers.timelimit: neither"),
    "retries of a string": (message(headers__retries="1"), "headers.retries: str"),
    "stamped headers of numbers": (message(headers__stamped_headers=[[1]]), "headers.stamped_headers"),
    "stamps of a list": (message(headers__stamps=[1]), "headers.stamps: list"),
    "a numeric shadow": (message(headers__shadow=1), "headers.shadow: int"),
    "compressed": (message(headers__compression="zlib"), "headers.compression"),
    "properties of a string": (message(properties="x"), "properties: str"),
    "a delivery_info of a list": (message(properties__delivery_info=[]), "properties.delivery_info: list"),
    "a numeric exchange": (message(properties__delivery_info__exchange=1), "properties.delivery_info.exchange: int"),
    "an unknown body encoding": (message(properties__body_encoding="rot13"), "properties.body_encoding"),
    "a body encoding of a list": (message(properties__body_encoding=[]), "properties.body_encoding"),
    "a numeric correlation_id": (message(properties__correlation_id=1), "properties.correlation_id: int"),
    "no content type": (message(without="content-type"), "content-type: missing"),
    "a pickle": (message(content_type="application/x-python-serialize"), "content-type: not accepted"),
    "a content type of a list": (message(content_type=[]), "content-type: not accepted"),
    "a numeric content encoding": (message(content_encoding=8), "content-encoding: not a string"),
    "no body": (message(without="body"), "body: missing"),
    "an empty body": (message(body=""), "body: missing"),
    "a body of an object": (message(body={}), "body: missing"),
    "no base64": (message(body="a"), "body: can't be decoded"),
    "base64 of noise": (message(body="////"), "body: can't be decoded"),
    "a body too deep to parse": (message(body=base64.b64encode(DEEP.encode()).decode()), "body: can't be decoded"),
    "a body nested deeply": (message(body=base64.b64encode(NESTED.encode()).decode()), "body: nested deeper"),
    "a body of two": (message(body=_body([[], {}])), "body: not [args"),
    "a body of an object, as in protocol 1": (message(body=_body({"args": []})), "body: not [args"),
    "args of an object": (message(body=_body([{}, {}, {}])), "body: args"),
    "kwargs of a list": (message(body=_body([[], [], {}])), "body: kwargs: list"),
    "null kwargs": (message(body=_body([[], None, {}])), "body: kwargs: missing"),
    "embed of a list": (message(body=_body([[], {}, []])), "body: embed: list"),
    "callbacks of an object": (message(body=_body([[], {}, {"callbacks": {"a": 1}}])), "body: embed.callbacks"),
    "a chain of strings": (message(body=_body([[], {}, {"chain": ["next"]}])), "body: embed.chain"),
    "a callback without a task": (
        message(body=_body([[], {}, {"callbacks": [{"args": []}]}])),
        "body: embed.callbacks",
    ),
    "an errback of a number": (message(body=_body([[], {}, {"errbacks": [1]}])), "body: embed.errbacks"),
    "a task of a number in a chain": (message(body=_body([[], {}, {"chain": [{"task": 5}]}])), "body: embed.chain"),
    "a chord of a number": (message(body=_body([[], {}, {"chord": 1}])), "body: embed.chord"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_message_is_refused_with_a_reason(kind: str) -> None:
    raw, reason = MALFORMED[kind]
    verdict = check_envelope(raw, queue="host.a")
    assert isinstance(verdict, Malformed)
    assert verdict.reason.startswith(reason)
    assert len(verdict.reason) < 120


@given(messages())
@example(b"")
def test_whatever_the_bytes_there_is_a_verdict(raw: bytes) -> None:
    verdict = check_envelope(raw, queue="host.a")
    assert isinstance(verdict, Envelope) or verdict.reason
    for is_control in (True, False):
        broadcast = check_broadcast(raw, is_control=is_control)
        assert broadcast is None or broadcast.reason


def test_reasons_quote_nothing_of_the_message() -> None:
    verdict = check_envelope(message(headers__eta="s3cret"), queue="host.a")
    assert isinstance(verdict, Malformed)
    assert "s3cret" not in verdict.reason


ADDRESSED: dict[str, tuple[bytes, str | None]] = {
    "by its header": (message(without="headers.task", headers__id="mine"), "mine"),
    "as of protocol 1": (message(headers={}, properties__correlation_id="mine"), "mine"),
    "in two megabytes": (message("x" * 2_000_000, headers__id="mine"), "mine"),
    "in more than is read": (message("x" * 20_000_000, headers__id="mine"), None),
    "who wants no result": (message(without="headers.task", headers__ignore_result=True), None),
    "a number": (message(headers__id=7), None),
    "an endless one": (message(headers__id="x" * 1000), None),
    "half a surrogate pair": (message(headers__id="\ud800"), None),
    "without one": (message(without="headers.id"), None),
    "in no JSON": (b"hello", None),
    "in a list": (b"[]", None),
    "in headers of a list": (message(headers=["id"]), None),
}


@pytest.mark.parametrize("kind", ADDRESSED)
def test_who_waits_for_a_malformed_message_is_known_where_it_can_be(kind: str) -> None:
    raw, request_id = ADDRESSED[kind]
    verdict = check_envelope(raw, queue="host.a")
    assert isinstance(verdict, Malformed)
    assert verdict.request_id == request_id


ACCEPTED: dict[str, bytes] = {
    "the least": message(),
    "no delivery tag": message(without="properties.delivery_tag"),
    "a numeric delivery tag": message(properties__delivery_tag=5),
    "no delivery info": message(without="properties.delivery_info"),
    "an empty delivery info": message(properties__delivery_info={}),
    "no content encoding": message(without="content-encoding"),
    "null retries": message(headers__retries=None),
    "all the nulls Celery sends": message(
        headers__eta=None,
        headers__expires=None,
        headers__timelimit=[None, None],
        headers__group=None,
        headers__parent_id=None,
        headers__shadow=None,
        headers__stamped_headers=None,
        headers__stamps={},
    ),
    "a header of one's own": message(headers__traceparent="00-1-2-01"),
    "embed of null": message(body=_body([["one"], {}, None])),
    "base64 with line ends": message(body=_body([["one"], {}, {}])[:10] + "\n" + _body([["one"], {}, {}])[10:]),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_is_optional_is_filled_in(kind: str) -> None:
    envelope = check_envelope(ACCEPTED[kind], queue="host.a")
    assert isinstance(envelope, Envelope)
    assert envelope.body == [["one"], {}, {}]
    properties = envelope.payload["properties"]
    assert isinstance(properties, dict)
    assert properties["delivery_info"] == {"exchange": "", "routing_key": "host.a"}


def test_no_properties_means_a_plain_body() -> None:
    raw = message(without="properties", body='[["one"], {}, {}]')
    assert isinstance(check_envelope(raw, queue="host.a"), Envelope)


def test_the_eta_is_read_with_its_zone_and_without() -> None:
    for text in ("2030-01-02T03:04:05+00:00", "2030-01-02T03:04:05", "2030-01-02T05:04:05+02:00"):
        envelope = check_envelope(message(headers__eta=text), queue="host.a")
        assert isinstance(envelope, Envelope)
        assert envelope.eta == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def _command(body: object, **headers: object) -> bytes:
    return message(body=_body(body), headers=headers)


COMMANDS: dict[str, tuple[bytes, bool]] = {
    "ping": (_command({"method": "ping", "arguments": {}, "destination": None}, clock=3), True),
    "a list": (b"[]", False),
    "too deep": (DEEP.encode(), False),
    "no command in it": (_command(["ping"]), False),
    "no method": (_command({"arguments": {}}), False),
    "arguments of a list": (_command({"method": "ping", "arguments": []}), False),
    "a clock of a string": (_command({"method": "ping"}, clock="x"), False),
    "a reply to nowhere": (_command({"method": "ping", "reply_to": {"exchange": 1}}), False),
    "no delivery tag": (message(without="properties.delivery_tag", body=_body({"method": "ping"})), False),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_to_workers_is_checked(kind: str) -> None:
    raw, is_good = COMMANDS[kind]
    assert (check_broadcast(raw, is_control=True) is None) == is_good


def test_other_broadcasts_may_hold_anything_in_a_proper_envelope() -> None:
    assert check_broadcast(_command([{"type": "task-sent"}]), is_control=False) is None
    assert check_broadcast(b"[]", is_control=False) is not None
