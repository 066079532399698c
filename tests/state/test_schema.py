"""A store says which version wrote it, and a version says whether it may read on."""

import pytest
import redis

from taskvisor.model.errors import CannotAsk, UnreadableRecord
from taskvisor.state.connection import open_redis
from taskvisor.state.keys import Keys
from taskvisor.state.schema import ensure_schema, require_readable


def test_a_store_is_marked_by_the_first_that_starts_on_it(client: redis.Redis, keys: Keys) -> None:
    require_readable(client, keys)
    assert client.get(keys.schema) is None

    ensure_schema(client, keys)
    ensure_schema(client, keys)

    require_readable(client, keys)
    assert client.get(keys.schema) == "1"


def test_what_a_newer_version_wrote_is_refused_in_words_and_left_alone(client: redis.Redis, keys: Keys) -> None:
    client.set(keys.schema, "2")

    for look in (ensure_schema, require_readable):
        with pytest.raises(UnreadableRecord) as refusal:
            look(client, keys)
        assert str(refusal.value) == (
            "this store was written by a newer Taskvisor (schema 2; this one reads up to 1): upgrade this node"
        )
    assert client.get(keys.schema) == "2"


def test_an_upgraded_node_raises_the_mark_and_the_others_are_told(client: redis.Redis, keys: Keys) -> None:
    ensure_schema(client, keys)

    ensure_schema(client, keys, version=2)

    require_readable(client, keys, version=2)
    with pytest.raises(UnreadableRecord, match="schema 2"):
        ensure_schema(client, keys)


@pytest.mark.parametrize("mark", ["", "one", "-1", "1.5", "١x"])
def test_a_mark_that_is_no_number_is_somebody_elses(client: redis.Redis, keys: Keys, mark: str) -> None:
    client.set(keys.schema, mark)

    for look in (ensure_schema, require_readable):
        with pytest.raises(UnreadableRecord, match=r"which is no number.*TASKVISOR_KEY_PREFIX"):
            look(client, keys)
    assert client.get(keys.schema) == mark


def test_a_mark_of_another_type_is_somebody_elses(client: redis.Redis, keys: Keys) -> None:
    client.sadd(keys.schema, "1")

    for look in (ensure_schema, require_readable):
        with pytest.raises(UnreadableRecord, match="what Taskvisor never wrote"):
            look(client, keys)


def test_a_silent_redis_has_no_schema_to_tell(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> None:
    gone = open_redis(f"unix://{tmp_path_factory.mktemp('gone')}/redis.sock", timeout_s=0.1)

    for look in (ensure_schema, require_readable):
        with pytest.raises(CannotAsk):
            look(gone, keys)
