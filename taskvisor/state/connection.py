"""Opening Redis, and what its silence means to the rest."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from taskvisor.model.errors import CannotAsk
from taskvisor.model.urls import redis_py_url_for


def open_redis(url: str, *, timeout_s: float) -> "redis.Redis":
    """A client with a connection pool; close it with `.close()`. Safe in threads; open a new one after fork.

    No call takes longer than about twice `timeout_s`, or five times when it has to connect first: a hung server is an
    error, not a hang. A connection that broke while idle is opened anew once. Accepts redis://, rediss://, unix:// and Celery's redis+socket://.
    """
    return redis.Redis.from_url(
        redis_py_url_for(url),
        decode_responses=True,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
    )


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn the silence of Redis into CannotAsk: nobody may conclude from it that something is not there."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise CannotAsk(f"Redis did not answer when asked to {what}: {error}; is it up and reachable?") from error
