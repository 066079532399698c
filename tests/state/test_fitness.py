"""A Redis that may forget is told from one that is a store, also where it lets nobody ask."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import CannotAsk
from taskvisor.state.connection import open_redis
from taskvisor.state.fitness import Flaw, Gravity, RedisFacts, flaws_for, read_facts
from tests.fixtures.redis_servers import OpenRedisServer

GOOD = RedisFacts(version="7.0.15", maxmemory_policy="noeviction", appendonly=True, snapshots=False)


def test_a_redis_that_forgets_nothing_has_no_flaw() -> None:
    assert flaws_for(GOOD) == ()
    assert flaws_for(replace(GOOD, snapshots=None, version=None)) == ()
    assert flaws_for(replace(GOOD, version="6.2.0")) == ()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-ttl", "allkeys-random"])
def test_an_evicting_redis_is_volatile(policy: str) -> None:
    (flaw,) = flaws_for(replace(GOOD, maxmemory_policy=policy))

    assert flaw.gravity is Gravity.VOLATILE
    assert f"(maxmemory-policy {policy})" in flaw.sentence
    assert "set `maxmemory-policy noeviction`" in flaw.sentence


@pytest.mark.parametrize(
    ("appendonly", "snapshots", "gravity", "words"),
    [
        (False, False, Gravity.VOLATILE, "a restart would lose every record: set `appendonly yes`"),
        (False, True, Gravity.NOTED, "what was written since the last one is lost"),
        (False, None, Gravity.NOTED, "does not say whether it keeps its data"),
        (None, None, Gravity.NOTED, "does not say whether it keeps its data"),
        (None, True, Gravity.NOTED, "what was written since the last one is lost"),
    ],
)
def test_what_is_kept_on_disk_decides(
    appendonly: bool | None, snapshots: bool | None, gravity: Gravity, words: str
) -> None:
    (flaw,) = flaws_for(replace(GOOD, appendonly=appendonly, snapshots=snapshots))

    assert (flaw.gravity, words in flaw.sentence) == (gravity, True)


def test_the_worst_comes_first() -> None:
    found = flaws_for(RedisFacts(version="5.0.3", maxmemory_policy="allkeys-lru", appendonly=False, snapshots=True))

    assert [flaw.gravity for flaw in found] == [Gravity.UNUSABLE, Gravity.VOLATILE, Gravity.NOTED]
    assert found[0] == Flaw(
        gravity=Gravity.UNUSABLE, sentence="Redis is 5.0.3; 6.2 or newer is needed (BLMOVE): upgrade it"
    )


@pytest.fixture
def own_client(open_redis_server: OpenRedisServer) -> Iterator[redis.Redis]:
    """Of a server of the test's own: no file, no snapshots, nothing evicted."""
    opened = open_redis(open_redis_server().url(), timeout_s=5.0)
    yield opened
    opened.close()


def test_a_real_redis_says_what_it_does(own_client: redis.Redis) -> None:
    first = read_facts(own_client)
    own_client.config_set("save", "3600 1")
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    own_client.config_set("appendonly", "yes")
    second = read_facts(own_client)

    assert first == RedisFacts(version=first.version, maxmemory_policy="noeviction", appendonly=False, snapshots=False)
    assert second == RedisFacts(version=first.version, maxmemory_policy="allkeys-lru", appendonly=True, snapshots=True)
    assert first.version
    assert flaws_for(replace(first, maxmemory_policy="noeviction"))[0].gravity is Gravity.VOLATILE


def _as_user(client: redis.Redis, *rules: str) -> redis.Redis:
    """A client of the same server whom some commands are forbidden."""
    client.acl_setuser("managed", enabled=True, nopass=True, keys=["*"], commands=["+@all", *rules])
    path = client.connection_pool.connection_kwargs["path"]
    return redis.Redis(unix_socket_path=path, username="managed", password="any", decode_responses=True)


def test_where_config_is_forbidden_info_is_asked(own_client: redis.Redis) -> None:
    own_client.config_set("maxmemory-policy", "volatile-lru")
    own_client.config_set("appendonly", "yes")

    with _as_user(own_client, "-config") as managed:
        facts = read_facts(managed)

    assert (facts.maxmemory_policy, facts.appendonly, facts.snapshots) == ("volatile-lru", True, None)
    own_client.config_set("appendonly", "no")
    own_client.save()
    with _as_user(own_client, "-config") as managed:
        assert (read_facts(managed).appendonly, read_facts(managed).snapshots) == (False, True)


def test_where_nothing_may_be_asked_there_is_a_warning_and_no_refusal(own_client: redis.Redis) -> None:
    with _as_user(own_client, "-config", "-info") as managed:
        facts = read_facts(managed)

    assert facts == RedisFacts(version=None, maxmemory_policy=None, appendonly=None, snapshots=None)
    assert {flaw.gravity for flaw in flaws_for(facts)} == {Gravity.NOTED}


def test_a_redis_that_is_not_there_is_not_judged(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(CannotAsk):
        read_facts(open_redis(f"unix://{tmp_path_factory.mktemp('gone')}/redis.sock", timeout_s=0.1))
