"""What can be said of an installation when something in it is not as it should be: the first things one would look at."""

from collections.abc import Iterator

import redis

from tests.deaths.hosts import Installation, MortalHost

OF_MESSAGES = ("compute*", "host.*")
OF_LIFE = ("{prefix}alive:*", "{prefix}taking:*")


def account_of(installation: Installation) -> str:
    """Queues, what is in flight, who was heard of lately, which programs ended unasked, and what each host logged last."""
    lines = [*_in_redis(installation), *(line for host in installation.hosts for line in _of_host(host))]
    return "\n".join(lines)


def _in_redis(installation: Installation) -> Iterator[str]:
    client, prefix = installation.redis, installation.keys.prefix
    try:
        for pattern in OF_MESSAGES:
            yield from (f"{key}: {client.llen(key)} messages" for key in sorted(map(str, client.keys(pattern))))
        for pattern in OF_LIFE:
            keys = sorted(map(str, client.keys(pattern.format(prefix=prefix))))
            yield from (f"{key}: {client.ttl(key)} s more without another word" for key in keys)
        yield f"unsettled: {client.zrange(installation.keys.unsettled, 0, -1, withscores=True)}"
    except redis.RedisError as silence:
        yield f"Redis: {silence}"


def _of_host(host: MortalHost) -> Iterator[str]:
    yield f"{host.name}: ended unasked: {host.ended() or 'nothing'}; its log ends with"
    yield host.log_tail()
