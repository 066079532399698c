"""One try to deliver an event, to a real HTTP server."""

import json

import pytest

from taskvisor.model.event import Event, EventKind, event_view
from taskvisor.model.ids import OperationId
from taskvisor.webhooks.posting import Poster, body_of
from tests.webhooks.receiver import KEY, Got, Receiver, receiving

EVENT = Event(
    cursor="1763769600000-0",
    operation_id=OperationId("op"),
    flow="instance.build",
    instance_id="i",
    instance_name="wéb-1",
    host="h",
    phase="running",
    step="fetch_image",
    outcome="done",
    at=1763769600.25,
    kind=EventKind.OPERATION,
    number=2,
    of=5,
    tried="prepare_disk",
)


def post(receiver: Receiver, *, timeout_s: float = 20.0, path: str = "/hook") -> str | None:
    poster = Poster(receiver.url(path), (KEY,), timeout_s=timeout_s)
    try:
        return poster.post(EVENT)
    finally:
        poster.close()


def test_what_is_taken_is_the_event_signed() -> None:
    with receiving() as receiver:
        assert post(receiver, path="/hook?token=x") is None
    (got,) = receiver.taken
    assert got.path == "/hook?token=x"
    assert json.loads(got.body) == {
        "type": "instance.build.running",
        "timestamp": "2025-11-22T00:00:00.250Z",
        "data": event_view(EVENT),
    }
    assert got.body == body_of(EVENT)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == EVENT.cursor
    assert got.is_signed_by(KEY)
    assert not got.is_signed_by(b"x" * 32)


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
def test_any_other_answer_is_a_reason(status: int) -> None:
    with receiving(lambda _: status) as receiver:
        assert post(receiver) == f"it answered {status}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nobody_is_followed_elsewhere(status: int) -> None:
    with receiving() as elsewhere, receiving(lambda _: status) as receiver:
        receiver.location = elsewhere.url()
        assert post(receiver) == (
            f"it answered {status}, a redirect, and none is followed: configure the URL that it leads to"
        )
        assert elsewhere.got == []


def test_a_server_that_is_not_there_is_a_reason() -> None:
    receiver = Receiver()
    receiver.start()
    receiver.stop()
    assert "ConnectError" in str(post(receiver))


def test_a_server_that_breaks_off_is_a_reason() -> None:
    def break_off(_: Got) -> int:
        raise ConnectionAbortedError

    with receiving(break_off) as receiver:
        assert "Error" in str(post(receiver))


def test_a_server_that_hangs_is_a_reason_in_time() -> None:
    with receiving() as receiver:
        receiver.answer = receiver.hang
        assert str(post(receiver, timeout_s=0.3)).startswith(("ReadTimeout", "no answer within"))


def test_a_server_that_sends_a_byte_now_and_then_is_cut_off() -> None:
    with receiving() as receiver:
        receiver.trickles = True
        assert post(receiver, timeout_s=0.5) == "no answer within 1 s"


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with receiving() as receiver:
        assert post(receiver) is None
