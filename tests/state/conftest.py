"""The parts of the store, each on the test's own database."""

from collections.abc import Iterator

import pytest
import redis

from taskvisor.state.addresses import Addresses
from taskvisor.state.admission import Admission
from taskvisor.state.catalog import Catalog
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.journal import RedisJournal
from taskvisor.state.keys import Keys
from taskvisor.state.networks import Networks
from taskvisor.state.writing import Writer
from tests.support.records import NETWORK


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    opened = open_redis(redis_url, timeout_s=5.0)
    yield opened
    opened.close()


@pytest.fixture
def keys() -> Keys:
    return Keys("tv:")


@pytest.fixture
def writer(keys: Keys) -> Writer:
    return Writer(keys=keys, operation_keep_s=3600, events_kept=1000, outcome_for=lambda *_: None)


@pytest.fixture
def admission(client: redis.Redis, writer: Writer) -> Admission:
    return Admission(client, writer)


@pytest.fixture
def journal(client: redis.Redis, writer: Writer) -> RedisJournal:
    return RedisJournal(client, writer)


@pytest.fixture
def catalog(client: redis.Redis, keys: Keys) -> Catalog:
    return Catalog(client, keys)


@pytest.fixture
def networks(client: redis.Redis, writer: Writer) -> Networks:
    return Networks(client, writer)


@pytest.fixture
def addresses(client: redis.Redis, keys: Keys, networks: Networks) -> Addresses:
    """Of the network `default`, and of others that a test records."""
    networks.ensure(NETWORK)
    return Addresses(client, keys)


@pytest.fixture
def hosts(client: redis.Redis, keys: Keys) -> Hosts:
    return Hosts(client, keys)
