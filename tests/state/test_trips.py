"""Round trips are counted where they are made."""

import os
import signal

import pytest
import redis

from taskvisor.state.connection import open_redis
from tests.fixtures.redis_servers import OpenRedisServer


def test_a_command_a_pipeline_and_a_script_are_one_trip_each(redis_url: str) -> None:
    with open_redis(redis_url, timeout_s=5) as client:
        client.set("a", 1)
        with client.pipeline() as pipe:
            pipe.get("a")
            pipe.get("b")
            pipe.execute()
        with client.pipeline() as empty:
            empty.execute()
        client.eval("return 1", 0)

        trips = client.tally.take()

    assert len(trips.durations_s) == 3
    assert trips.silent == 0
    assert client.tally.take().durations_s == ()


def test_an_error_that_redis_answers_is_an_answer(redis_url: str) -> None:
    with open_redis(redis_url, timeout_s=5) as client:
        client.set("a", "text")
        with pytest.raises(redis.ResponseError):
            client.lpush("a", 1)

        trips = client.tally.take()

    assert (len(trips.durations_s), trips.silent) == (2, 0)


def test_silence_is_counted_apart(open_redis_server: OpenRedisServer) -> None:
    server = open_redis_server()
    assert server.pid is not None
    with open_redis(server.url(), timeout_s=0.2) as client:
        client.ping()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                client.get("a")
            pipe = client.pipeline().get("a")
            with pytest.raises(redis.TimeoutError):
                pipe.execute()
        finally:
            os.kill(server.pid, signal.SIGCONT)

        trips = client.tally.take()

    assert (len(trips.durations_s), trips.silent) == (1, 2)
