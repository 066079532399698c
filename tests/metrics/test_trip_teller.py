"""What a process asked of Redis is told now and then, and once."""

import os
import signal

import pytest
import redis

from taskvisor.state.connection import open_redis
from taskvisor.state.counters import Count, CounterName, Counters, counts_in
from taskvisor.state.histograms import HistogramName, histograms_in
from tests.fixtures.redis_servers import OpenRedisServer
from tests.support.clock import FakeClock
from tests.support.fleet import KEYS
from workers.trips import TELL_EVERY_S, TripTeller


def test_trips_are_told_when_it_is_time_and_once(redis_url: str) -> None:
    clock = FakeClock()
    with open_redis(redis_url, timeout_s=5) as client:
        counters = Counters(client, KEYS)
        teller = TripTeller(client.tally, counters, "steps", steady=clock.now)
        for _ in range(3):
            client.ping()
        teller.tell_if_due()
        assert counters.read() == {}

        clock.sleep(TELL_EVERY_S)
        teller.tell_if_due()
        teller.tell_if_due()

        (found,) = histograms_in(counters.read())
    assert (found.name, found.labels) == (HistogramName.REDIS_TRIP_DURATION, ("steps",))
    assert sum(found.counts) == 4  # and the look that found nothing


def test_trips_that_met_silence_are_told_apart(open_redis_server: OpenRedisServer) -> None:
    server, clock = open_redis_server(), FakeClock()
    assert server.pid is not None
    with open_redis(server.url(), timeout_s=0.2) as client:
        teller = TripTeller(client.tally, Counters(client, KEYS), "control", steady=clock.now)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                client.ping()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        clock.sleep(TELL_EVERY_S)
        teller.tell_if_due()

        found = counts_in(Counters(client, KEYS).read())
    assert found == (Count(name=CounterName.REDIS_TRIPS_SILENT, labels=("control",), total=1),)
