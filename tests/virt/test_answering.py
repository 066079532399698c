"""A call that is not answered costs a bounded time; the answer of one that is comes through as it is."""

import threading
import time
from collections.abc import Iterator

import pytest

from taskvisor.model.errors import Refused
from virt.answering import SILENT_LIMIT, QemuSilent, answer_within

LIMIT_S, SOON_S = 30.0, 0.05


@pytest.fixture
def silent() -> Iterator[threading.Event]:
    """What calls wait for that are not answered; at the end they all are."""
    goes_on = threading.Event()
    yield goes_on
    goes_on.set()
    deadline = time.monotonic() + LIMIT_S
    while any(thread.name == "libvirt-call" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_comes_through() -> None:
    assert answer_within(LIMIT_S, "ask", lambda: 42) == 42
    assert answer_within(LIMIT_S, "ask", lambda: None) is None


def test_an_error_comes_through() -> None:
    def refuse() -> None:
        raise Refused("not so")

    with pytest.raises(Refused, match="not so"):
        answer_within(LIMIT_S, "ask", refuse)


def test_a_call_that_is_not_answered_is_given_up(silent: threading.Event) -> None:
    with pytest.raises(QemuSilent, match="cannot ask: its QEMU has not answered"):
        answer_within(SOON_S, "ask", silent.wait)


def test_only_so_many_calls_are_left_waiting_and_each_that_is_answered_makes_room(silent: threading.Event) -> None:
    for _ in range(SILENT_LIMIT):
        with pytest.raises(QemuSilent, match="has not answered"):
            answer_within(SOON_S, "ask", silent.wait)
    made: list[int] = []
    with pytest.raises(QemuSilent, match=f"{SILENT_LIMIT} calls of this process wait"):
        answer_within(LIMIT_S, "ask", lambda: made.append(1))
    assert made == []

    silent.set()
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            answer_within(LIMIT_S, "ask", lambda: made.append(1))
        except QemuSilent:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            break
    assert made == [1]
