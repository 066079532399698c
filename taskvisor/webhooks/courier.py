"""The courier of one URL: event after event in their order, each until it is taken or given up. At least once.

What it knows is in Redis: killed in the midst, another goes on at the event that was not yet confirmed. While a URL is down its
events wait in the stream; the oldest are given up, and logged with the reason, once they are older than the limit.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

import structlog

from taskvisor.model.errors import CannotAsk
from taskvisor.model.event import Event
from taskvisor.model.urls import shown_url
from taskvisor.model.webhook import Standing, Undelivered
from taskvisor.state.events import Events, order_of
from taskvisor.state.webhooks import Webhooks

log = structlog.get_logger(__name__)

LEAST_TRIES = 3
"""Also of an event that was too old when its turn came: a sender that was off for a day gives each a fair try."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 300.0
JITTER = 0.25
BATCH = 100
STAND_BY_S = 2.0
"""Whoever has not the turn looks so often whether it is free."""
SILENCE_PAUSE_S = 2.0
REASON_LIMIT_CHARACTERS = 500


class Posts(Protocol):
    """What delivers: `posting.Poster`, but for tests."""

    def post(self, event: Event) -> str | None:
        """None when it was taken; else why not."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a turn lasts without a sign of life, and up to which age events are tried again."""

    turn_s: float
    keep_s: float
    event_wait_s: float


def key_for(url: str) -> str:
    """What the URL is known by in records: it may hold a secret itself."""
    return blake2b(url.encode(), digest_size=8).hexdigest()


def pause_s_for(tries: int) -> float:
    """How long to wait after so many failed tries: twice as long each time, within bounds, not all URLs in step."""
    pause_s: float = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30))
    return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


@dataclass(kw_only=True)
class Courier:
    """Runs in a thread of its own, so that a URL that hangs holds up no other."""

    url: str
    events: Events
    webhooks: Webhooks
    poster: Posts
    patience: Patience
    token: str
    stopped: threading.Event
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._key = key_for(self.url)
        self._shown = shown_url(self.url)

    def run(self) -> None:
        """Until it is told to stop; then what is under way is ended, and the turn given back. Bears a Redis that is away."""
        silent = False
        while not self.stopped.is_set():
            try:
                self._round()
                silent = False
            except CannotAsk as silence:
                if not silent:
                    log.warning("webhook_waits_for_redis", url=self._shown, reason=str(silence))
                silent = True
                self.stopped.wait(SILENCE_PAUSE_S)
        try:
            self.webhooks.give_back_turn(self._key, self.token)
        except CannotAsk as silence:
            log.warning("webhook_turn_left_to_expire", url=self._shown, reason=str(silence))

    def _round(self) -> None:
        """Some of what is to be delivered, if it is our turn. Waits a little when there is nothing."""
        if not self._has_turn():
            self.stopped.wait(STAND_BY_S)
            return
        standing = self.webhooks.read(self._key) or self._begun()
        if standing is None:
            return
        pause_s = standing.not_before - self.now()
        if pause_s > 0:
            self.stopped.wait(min(pause_s, self.patience.turn_s / 3))
            return
        self._deliver_next(standing)

    def _has_turn(self) -> bool:
        return self.webhooks.take_turn(self._key, self.token, keep_s=self.patience.turn_s)

    def _begun(self) -> Standing | None:
        """A URL that is new begins with what comes from now on."""
        newest = self.events.read_bounds().newest
        standing = Standing(key=self._key, url=self._shown, cursor=newest, at=self.now())
        log.info("webhook_began", url=self._shown, cursor=newest)
        return standing if self.webhooks.write(standing, self.token) else None

    def _deliver_next(self, standing: Standing) -> None:
        if standing.tries == 0:
            noted = self._note_missed(standing)
            if noted is None:
                return
            standing = noted
        for event in self.events.read_after(standing.cursor, wait_s=self.patience.event_wait_s, limit=BATCH):
            if self.stopped.is_set() or not self._has_turn():
                return
            following = self._deliver(event, standing)
            if following is None or following.tries:
                return
            standing = following

    def _note_missed(self, standing: Standing) -> Standing | None:
        """What the stream let go before it could be sent is in the log, once."""
        bounds = self.events.read_bounds()
        missed = bounds.missed_after(standing.cursor)
        if not missed:
            return standing
        log.warning("webhook_missed_events", url=self._shown, cursor=standing.cursor, reason=missed)
        before_oldest = _before(bounds.oldest)
        gap = Undelivered(
            url=self._shown,
            cursor=standing.cursor,
            event="",
            tries=0,
            reason=f"{missed} after this one: the stream kept them no longer",
            at=self.now(),
        )
        following = replace(standing, cursor=before_oldest, at=self.now())
        return following if self.webhooks.write(following, self.token, undelivered=gap) else None

    def _deliver(self, event: Event, standing: Standing) -> Standing | None:
        """The standing after one try; None when the turn is another's by now."""
        reason = self.poster.post(event)
        if reason is None:
            done = replace(_past(event, standing, self.now()), delivered=standing.delivered + 1)
            return done if self.webhooks.write(done, self.token) else None
        return self._failed(event, standing, reason[:REASON_LIMIT_CHARACTERS])

    def _failed(self, event: Event, standing: Standing, reason: str) -> Standing | None:
        tries, now = standing.tries + 1, self.now()
        age_s = now - order_of(event.cursor)[0] / 1000
        if tries >= LEAST_TRIES and age_s > self.patience.keep_s:
            return self._give_up(event, standing, tries, reason)
        log.warning("webhook_not_taken", url=self._shown, cursor=event.cursor, tries=tries, reason=reason)
        waiting = replace(standing, tries=tries, not_before=now + pause_s_for(tries), reason=reason, at=now)
        return waiting if self.webhooks.write(waiting, self.token) else None

    def _give_up(self, event: Event, standing: Standing, tries: int, reason: str) -> Standing | None:
        log.error("webhook_given_up", url=self._shown, cursor=event.cursor, tries=tries, reason=reason)
        lost = Undelivered(
            url=self._shown,
            cursor=event.cursor,
            event=f"{event.flow}.{event.phase}",
            tries=tries,
            reason=reason,
            at=self.now(),
        )
        following = replace(_past(event, standing, self.now()), given_up=standing.given_up + 1)
        return following if self.webhooks.write(following, self.token, undelivered=lost) else None


def _past(event: Event, standing: Standing, now: float) -> Standing:
    return replace(standing, cursor=event.cursor, tries=0, not_before=0.0, reason="", at=now)


def _before(cursor: str) -> str:
    """The cursor right before an entry: reading after it begins with that entry."""
    milliseconds, number = order_of(cursor)
    return f"{milliseconds}-{number - 1}" if number else f"{milliseconds - 1}-{2**64 - 1}"
