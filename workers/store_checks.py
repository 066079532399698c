"""What a look at Redis says to a machine that is to be a host: fit as a store, how far away, and whose clock is wrong."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import redis

from taskvisor.model.errors import CannotAsk, TaskvisorError
from taskvisor.model.preflight import CheckRow, Verdict, row_of_problem
from taskvisor.settings import Settings
from taskvisor.state.connection import asking, open_redis
from taskvisor.state.fitness import RedisFacts, flaws_for, read_facts
from taskvisor.state.keys import Keys
from taskvisor.state.schema import require_readable
from workers.identity_opening import identity_check_for
from workers.store_check import notes_for, refusals_for

PINGS = 5
LATENCY_WARNED_S = 0.020
"""A step writes some four times: at this distance each waits for the store longer than it takes to start."""
SKEW_WARNED_S = 2.0
"""Heartbeats, expiry and what is overdue are told by clocks: a host's own, and that of whoever looks."""


def redis_rows(settings: Settings) -> Iterator[CheckRow]:
    """Reachable, fit to keep records, and written by no newer version."""
    with closing(_opened(settings)) as client:
        try:
            facts = read_facts(client)
            require_readable(client, Keys(settings.key_prefix))
        except TaskvisorError as problem:
            yield row_of_problem("redis", str(problem))
            return
    flaws = flaws_for(facts)
    refusals, notes = refusals_for(flaws, settings), notes_for(flaws, settings)
    yield from (row_of_problem("redis", sentence) for sentence in refusals)
    yield from (row_of_problem("redis", sentence, Verdict.WARNING) for sentence in notes)
    if not refusals and not notes:
        yield CheckRow(check="redis", found=_said_of(facts))


def latency_rows(settings: Settings) -> Iterator[CheckRow]:
    """How long Redis takes to answer."""
    return _rows_of("redis latency", settings, lambda client: _latency_rows(_latency_s(client)))


def clock_rows(settings: Settings) -> Iterator[CheckRow]:
    """This machine's clock against that of Redis, as far as a round trip allows."""
    return _rows_of("clock", settings, lambda client: skew_rows(_skew_s(client)))


def identity_rows(settings: Settings) -> Iterator[CheckRow]:
    """Whether a start would be refused because this machine is not the host that it is said to be."""

    def rows(client: "redis.Redis") -> Iterator[CheckRow]:
        refusals = identity_check_for(settings, client).list_refusals()
        yield from (row_of_problem("identity", refusal.sentence) for refusal in refusals)
        if not refusals:
            yield CheckRow(check="identity", found=f"this machine is, or may become, host {settings.host}")

    return _rows_of("identity", settings, rows)


def skew_rows(skew_s: float) -> Iterator[CheckRow]:
    """What to say of a clock that is so far ahead."""
    if abs(skew_s) <= SKEW_WARNED_S:
        yield CheckRow(check="clock", found=f"within {SKEW_WARNED_S:g} s of Redis' ({skew_s:+.3f} s)")
        return
    ahead = "ahead of" if skew_s > 0 else "behind"
    yield CheckRow(
        check="clock",
        found=f"{abs(skew_s):.1f} s {ahead} that of Redis",
        verdict=Verdict.WARNING,
        advice="let both follow a time server (systemd-timesyncd, chrony)",
    )


def _rows_of(check: str, settings: Settings, ask: "Callable[[redis.Redis], Iterator[CheckRow]]") -> Iterator[CheckRow]:
    """What is asked of Redis. Its silence is told by the check of Redis itself; here it is only said."""
    with closing(_opened(settings)) as client:
        try:
            yield from ask(client)
        except (CannotAsk, redis.RedisError):
            yield CheckRow(check=check, found="cannot be told: Redis is silent", verdict=Verdict.WARNING)


def _latency_rows(took_s: float) -> Iterator[CheckRow]:
    slow = took_s > LATENCY_WARNED_S
    yield CheckRow(
        check="redis latency",
        found=f"{took_s * 1000:.1f} ms, the median of {PINGS}",
        verdict=Verdict.WARNING if slow else Verdict.OK,
        advice="every step waits for it several times; move Redis and hosts closer together" if slow else "",
    )


def _skew_s(client: "redis.Redis") -> float:
    client.ping()  # the connection is open: what is measured is the question alone
    before = time.time()
    seconds, microseconds = client.time()
    return (before + time.time()) / 2 - (int(seconds) + int(microseconds) / 1e6)


def _latency_s(client: "redis.Redis") -> float:
    def once() -> float:
        began = time.perf_counter()
        client.ping()
        return time.perf_counter() - began

    with asking("answer a ping"):
        client.ping()  # opens the connection
        return statistics.median(once() for _ in range(PINGS))


def _said_of(facts: RedisFacts) -> str:
    kept = "keeps every write on disk" if facts.appendonly else "keeps snapshots"
    return f"Redis {facts.version or 'of a version it does not tell'}, {kept}, evicts nothing"


def _opened(settings: Settings) -> "redis.Redis":
    return open_redis(settings.redis_url, timeout_s=settings.redis_timeout_s)
