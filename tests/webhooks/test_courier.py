"""The courier of one URL, over a real Redis, with a poster that answers as the test says and a clock that the test sets."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from taskvisor.model.event import Event
from taskvisor.model.webhook import Standing
from taskvisor.state.connection import open_redis
from taskvisor.state.events import Events
from taskvisor.state.keys import Keys
from taskvisor.state.webhooks import Webhooks
from taskvisor.webhooks.courier import FIRST_PAUSE_S, JITTER, LAST_PAUSE_S, Courier, Patience, key_for, pause_s_for

URL = "https://bob:geheim@hooks.example/x?token=geheim"
KEEP_S = 100.0
LIMIT_S = 60.0


@dataclass
class Answers:
    """`reasons`: for cursors that are not taken, why. Ends the courier after the event `last`, or `tries_left` tries."""

    stopped: threading.Event
    reasons: dict[str, str] = field(default_factory=dict)
    posted: list[str] = field(default_factory=list)
    last: str = ""
    tries_left: int = 1000

    def post(self, event: Event) -> str | None:
        self.posted.append(event.cursor)
        self.tries_left -= 1
        if event.cursor == self.last or self.tries_left <= 0:
            self.stopped.set()
        return self.reasons.get(event.cursor)


class Desk:
    """A stream, a courier, and what became of them."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = Keys("tv:")
        self.webhooks = Webhooks(client, self.keys, log_kept=5)
        self.events = Events(client, self.keys)
        self.now = 1000.0

    def add(self, *seconds: int) -> list[str]:
        fields: dict[Any, Any] = {
            "op": "op",
            "flow": "instance.build",
            "instance": "i",
            "name": "n",
            "host": "h",
            "phase": "running",
            "step": "",
            "outcome": "",
            "at": "1",
        }
        for at in seconds:
            self.client.xadd(self.keys.events, fields, id=f"{at * 1000}-0")
        return [f"{at * 1000}-0" for at in seconds]

    def begin(self) -> None:
        """The URL was configured now."""
        answers = Answers(threading.Event())
        self._courier(answers)._round()
        assert answers.posted == []

    def run(self, *, last: str = "", tries: int = 1000, reasons: dict[str, str] | None = None) -> list[str]:
        """What was posted until the event `last`, or for so many tries. `reasons`: cursors that are not taken, and why."""
        answers = Answers(threading.Event(), last=last, tries_left=tries)
        answers.reasons = reasons or {}
        courier = self._courier(answers)
        thread = threading.Thread(target=courier.run)
        thread.start()
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        return answers.posted

    def _courier(self, answers: Answers) -> Courier:
        return Courier(
            url=URL,
            events=self.events,
            webhooks=self.webhooks,
            poster=answers,
            patience=Patience(turn_s=60.0, keep_s=KEEP_S, event_wait_s=0.05),
            token="one",
            stopped=answers.stopped,
            now=lambda: self.now,
        )

    @property
    def standing(self) -> Standing:
        (standing,) = self.webhooks.list_standings()
        return standing


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    client = open_redis(redis_url, timeout_s=5.0)
    yield Desk(client)
    client.close()


def test_a_url_begins_with_what_is_new_and_gets_each_event_in_order(desk: Desk) -> None:
    desk.add(1, 2)
    desk.begin()
    new = desk.add(3, 4, 5)

    assert desk.run(last=new[-1]) == new

    assert desk.standing == Standing(
        key=key_for(URL), url="https://hooks.example/x", cursor=new[-1], delivered=3, at=desk.now
    )
    assert desk.run(last=desk.add(6)[0]) == ["6000-0"]  # another courier goes on where the first stopped


def test_no_secret_of_a_url_is_in_the_records(desk: Desk) -> None:
    desk.begin()
    desk.run(last=desk.add(950)[0])
    assert "geheim" not in str(desk.client.hgetall(desk.keys.webhooks))
    assert "geheim" not in str(desk.client.keys())


def test_an_event_that_is_not_taken_holds_up_those_after_it_and_is_tried_again_later(desk: Desk) -> None:
    desk.begin()
    new = desk.add(998, 999)

    assert desk.run(tries=1, reasons={"998000-0": "it answered 500"}) == new[:1]

    standing = desk.standing
    assert (standing.tries, standing.reason, standing.delivered) == (1, "it answered 500", 0)
    assert 1000 + FIRST_PAUSE_S * (1 - JITTER) <= standing.not_before <= 1000 + FIRST_PAUSE_S * (1 + JITTER)
    desk.now = standing.not_before
    assert desk.run(last=new[-1]) == new
    assert (desk.standing.tries, desk.standing.delivered, desk.standing.reason) == (0, 2, "")


def test_pauses_grow_and_are_bounded() -> None:
    for tries, pause_s in ((1, 1.0), (2, 2.0), (5, 16.0), (50, LAST_PAUSE_S), (100_000, LAST_PAUSE_S)):
        assert pause_s * (1 - JITTER) <= pause_s_for(tries) <= pause_s * (1 + JITTER)


def test_an_event_that_is_too_old_is_given_up_with_the_reason_and_the_next_has_its_turn(desk: Desk) -> None:
    desk.begin()
    old, young = desk.add(800, 990)
    for tries in (1, 2):
        assert desk.run(tries=1, reasons={"800000-0": "it answered 500"}) == [old]
        assert desk.standing.tries == tries
        desk.now = desk.standing.not_before

    assert desk.run(last=young, reasons={"800000-0": "it answered 500"}) == [old, young]

    (lost,) = desk.webhooks.list_undelivered(10)
    assert (lost.cursor, lost.tries, lost.reason, lost.event) == (old, 3, "it answered 500", "instance.build.running")
    assert lost.url == "https://hooks.example/x"
    assert (desk.standing.given_up, desk.standing.delivered, desk.standing.cursor) == (1, 1, young)


def test_an_event_that_is_young_is_tried_as_often_as_it_takes(desk: Desk) -> None:
    desk.begin()
    (young,) = desk.add(1000)
    for _ in range(6):
        assert desk.run(tries=1, reasons={"1000000-0": "it answered 500"}) == [young]
        desk.now = desk.standing.not_before
    assert desk.standing.tries == 6
    assert desk.webhooks.list_undelivered(10) == []


def test_the_log_of_what_was_given_up_is_bounded(desk: Desk) -> None:
    desk.begin()
    old = desk.add(*range(1, 9))
    for _ in range(3 * len(old)):
        desk.run(tries=1, reasons=dict.fromkeys(old, "gone"))
        desk.now = max(desk.now, desk.standing.not_before)
    assert [lost.cursor for lost in desk.webhooks.list_undelivered(10)] == old[:-6:-1]
    assert desk.standing.given_up == len(old)


def test_what_the_stream_let_go_is_in_the_log_once(desk: Desk) -> None:
    desk.begin()
    desk.add(1, 2, 3, 4)
    desk.client.xtrim(desk.keys.events, maxlen=2, approximate=False)

    assert desk.run(last="4000-0") == ["3000-0", "4000-0"]
    assert desk.run(last=desk.add(5)[0]) == ["5000-0"]

    (gap,) = desk.webhooks.list_undelivered(10)
    assert gap.reason == "2 entries may be missing after this one: the stream kept them no longer"


def test_what_another_has_the_turn_of_is_left_to_it(desk: Desk) -> None:
    desk.begin()
    desk.webhooks.give_back_turn(key_for(URL), "one")
    assert desk.webhooks.take_turn(key_for(URL), "two", keep_s=60)
    desk.add(999)

    answers = Answers(threading.Event())
    courier = desk._courier(answers)
    threading.Timer(0.2, answers.stopped.set).start()
    courier.run()

    assert answers.posted == []
    assert desk.webhooks.take_turn(key_for(URL), "two", keep_s=60)  # what the courier gave back was not another's


def test_who_has_lost_the_turn_moves_no_cursor_and_logs_nothing(desk: Desk) -> None:
    desk.begin()
    before = desk.standing
    desk.webhooks.give_back_turn(key_for(URL), "one")
    desk.webhooks.take_turn(key_for(URL), "two", keep_s=60)

    assert not desk.webhooks.write(replace(before, cursor="9-9"), "one")

    assert desk.standing == before


def test_a_url_that_is_forgotten_begins_anew(desk: Desk) -> None:
    desk.begin()
    desk.add(1, 2)
    desk.webhooks.forget(key_for(URL))
    desk.begin()
    assert desk.run(last=desk.add(3)[0]) == ["3000-0"]
