"""Opening Redis, and what its silence means to the rest."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from taskvisor.model.errors import CannotAsk, Refused, Unauthorised, UnreadableRecord
from taskvisor.model.urls import redis_py_url_for, require_redis_url, shown_url
from taskvisor.state.tls import tls_advice_for
from taskvisor.state.trips import CountedRedis

CAUSES_LIMIT = 10
_PLACE_IN_SSL = re.compile(r" \(_ssl\.c:\d+\)")
NOT_NOW = (redis.OutOfMemoryError, redis.ReadOnlyError)
NOT_NOW_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN")
"""Answers of a Redis that would do the same thing another time; nothing was written (https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors)."""


def open_redis(url: str, *, timeout_s: float) -> CountedRedis:
    """A client with a connection pool; close it with `.close()`. Safe in threads; open a new one after fork.

    No call takes longer than about twice `timeout_s`, or five times when it has to connect first: a hung server is an
    error, not a hang. A connection that broke while idle is opened anew once. Accepts redis://, rediss://, unix:// and
    Celery's redis+socket://. Bytes that are no UTF-8 are read as lone surrogates, and written back as they were. Its
    `tally` counts the round trips.
    Refused, in words, when the URL is none of a Redis; nothing is connected to yet.
    """
    require_redis_url(url)
    try:
        client = CountedRedis.from_url(
            redis_py_url_for(url),
            decode_responses=True,
            encoding_errors="surrogateescape",  # what somebody else wrote must not make every list fail
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
        )
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)  # it minds unknown options
    except (ValueError, TypeError, redis.RedisError) as error:  # the last: of an ssl_cert_reqs that there is not
        why = str(error).rpartition("unexpected keyword argument ")
        what = f"it has no option {why[2]}" if why[1] else why[2]
        raise Refused(f"Redis URL {shown_url(url)!r}: {what}; leave out what stands behind its '?'") from error
    return cast(CountedRedis, client)  # of the class that it was asked of, whatever redis-py's types say


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn the silence of Redis, and its "not now", into CannotAsk: nobody may conclude from it that something is not there.

    Unauthorised when it answers and does not let us; Refused when it has no such database; UnreadableRecord when a key holds
    another type than ours: somebody else wrote it.
    """
    try:
        yield
    except (redis.AuthenticationError, NoPermissionError) as error:
        raise Unauthorised(_not_let(what, error)) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise CannotAsk(f"Redis did not answer when asked to {what}: {silence_text(error)}") from error
    except redis.ResponseError as error:
        if says_not_now(error):
            raise CannotAsk(f"Redis refused to {what} for now: {error}; see its log and its limits") from error
        if "DB index is out of range" in str(error):
            raise Refused(f"Redis can't {what}: it has no such database; choose a lower number in its URL") from error
        if "WRONGTYPE" in str(error):
            raise UnreadableRecord(
                f"Redis can't {what}: a key of it holds what Taskvisor never wrote ({error})"
            ) from error
        raise


def says_not_now(error: redis.ResponseError) -> bool:
    """Redis would do the same thing another time; nothing was written."""
    return isinstance(error, NOT_NOW) or str(error).startswith(NOT_NOW_CODES)


def silence_text(error: BaseException) -> str:
    """What a connection that was not had, or broke, died of, and what to do about it."""
    why = _PLACE_IN_SSL.sub("", str(error)).rstrip(".")
    return f"{why}; {tls_advice_for(error) or 'is it up and reachable?'}"


def redis_error_behind(error: BaseException) -> redis.RedisError | None:
    """What Redis or its client said that another library made its own error of; None when it was something else."""
    seen: BaseException | None = error
    for _ in range(CAUSES_LIMIT):
        if seen is None or isinstance(seen, redis.RedisError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _not_let(what: str, error: redis.RedisError) -> str:
    """Why Redis did not do it, and what is to be changed (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)."""
    why = str(error).partition(", otherwise the HELLO")[0].rstrip(".")
    if isinstance(error, NoPermissionError):
        return f"Redis did not let its user {what}: {why}; give the user that right (ACL SETUSER), or name another in the URL"
    return f"Redis did not let us in to {what}: {why}; put the right user and password into its URL (redis://USER:PASSWORD@HOST…)"
