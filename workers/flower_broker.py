"""Flower's page of queues: how many messages wait in each, asked of our Redis by its own URL.

Flower knows brokers by the schemes of their URLs. Ours is none of those (`workers.transport`), of a socket Flower leaves out
which database it is, and of rediss:// which certificates. Knows nothing of what a message is.

Relied upon, private to Flower 2.2 (tests/system/test_flower.py fails when one of them moves):

    flower.views            Broker, what every page makes its broker by
    utils.broker.RedisBase  __init__, queues, redis, priority_steps
"""

# Flower has no types.
# mypy: allow-untyped-calls

from typing import Any

import redis.asyncio
from flower import views
from flower.utils.broker import RedisBase

from taskvisor.model.urls import redis_py_url_for
from taskvisor.settings import read_settings


class QueueLengths(RedisBase):
    """What Flower asks for the lengths of queues."""

    def __init__(self, broker_url: str, *args: Any, **options: Any) -> None:
        super().__init__(broker_url, *args, **options)
        settings = read_settings()
        self.priority_steps = [0]  # our queues have no others, and an ACL may let nobody ask for more
        self.redis = redis.asyncio.Redis.from_url(
            redis_py_url_for(settings.redis_url),
            socket_timeout=settings.redis_timeout_s,
            socket_connect_timeout=settings.redis_timeout_s,
        )


def show_our_queues() -> None:
    """From now on this process's Flower tells the lengths of our queues."""
    views.Broker = QueueLengths
