"""One atomic write under conditions: all of it, or nothing."""

from collections.abc import Callable

import pytest
import redis

from taskvisor.model.errors import Refused
from taskvisor.state.transaction import Transaction
from tests.support.world import read_everything


class Broken(Exception):
    """What a guard raises here; its text is what was found."""


Guard = Callable[[Transaction], None]
Commands = tuple[tuple[str | float, ...], ...]


def put(client: redis.Redis, commands: Commands) -> None:
    """Carry them out, unconditionally."""
    tx = Transaction()
    for command in commands:
        tx.do(*command)
    tx.run(client, "put")


def add_is(tx: Transaction) -> None:
    tx.require("hash", "field", 7, Broken)


def add_absent(tx: Transaction) -> None:
    tx.require_absent("hash", "field", Broken)


def add_same(tx: Transaction) -> None:
    tx.require_same("string", "as it was", Broken)


def add_room(tx: Transaction) -> None:
    tx.require_room("hash", "used", 3, 10, Broken)


def add_scored(tx: Transaction) -> None:
    tx.require_scored("zset", "member", 5.5, Broken)


def add_sharing(tx: Transaction) -> None:
    tx.require_sharing("hash", "mine", "shared", Broken)


def add_alone(tx: Transaction) -> None:
    tx.require_sharing("hash", "mine", "alone", Broken)


def add_unscored(tx: Transaction) -> None:
    tx.require_unscored("zset", "member", Broken)


def add_vacant(tx: Transaction) -> None:
    tx.require_vacant("hash", "field", "me", Broken)


def add_gone(tx: Transaction) -> None:
    tx.require_gone("string", Broken)


HELD: tuple[tuple[Guard, Commands], ...] = (
    (add_is, (("HSET", "hash", "field", "7"),)),
    (add_absent, ()),
    (add_absent, (("HSET", "hash", "other", "1"),)),
    (add_same, (("SET", "string", "as it was"),)),
    (add_room, ()),
    (add_room, (("HSET", "hash", "used", "7"),)),
    (add_room, (("HSET", "hash", "used", "-1"),)),
    (add_scored, (("ZADD", "zset", 5.5, "member"),)),
    (add_sharing, ()),
    (add_sharing, (("HSET", "hash", "other", "shared"),)),
    (add_sharing, (("HSET", "hash", "mine", "alone"),)),
    (add_alone, (("HSET", "hash", "mine", "alone"),)),
    (add_gone, (("SET", "other", "1"),)),
    (add_unscored, (("ZADD", "zset", 5.5, "other"),)),
    (add_vacant, ()),
    (add_vacant, (("HSET", "hash", "field", "me"),)),
)

BROKEN: tuple[tuple[Guard, Commands, str], ...] = (
    (add_is, (), ""),
    (add_is, (("HSET", "hash", "field", "8"),), "8"),
    (add_is, (("HSET", "hash", "field", "7.0"),), "7.0"),
    (add_absent, (("HSET", "hash", "field", "x"),), "x"),
    (add_absent, (("HSET", "hash", "field", ""),), ""),
    (add_same, (), ""),
    (add_same, (("SET", "string", "as it was "),), ""),
    (add_room, (("HSET", "hash", "used", "8"),), "8"),
    (add_scored, (), ""),
    (add_scored, (("ZADD", "zset", 5.6, "member"),), "5.5999999999999996"),
    (add_sharing, (("HSET", "hash", "other", "alone"),), "other"),
    (add_sharing, (("HSET", "hash", "mine", "shared", "other", "alone"),), "other"),
    (add_alone, (("HSET", "hash", "other", "shared"),), "other"),
    (add_alone, (("HSET", "hash", "mine", "alone", "other", "alone"),), "other"),
    (add_gone, (("SET", "string", ""),), "string"),
    (add_unscored, (("ZADD", "zset", 5.5, "member"),), "5.5"),
    (add_vacant, (("HSET", "hash", "field", "another"),), "another"),
)


@pytest.mark.parametrize(("add", "there"), HELD)
def test_a_guard_that_holds_lets_every_command_through(client: redis.Redis, add: Guard, there: Commands) -> None:
    put(client, there)
    tx = Transaction()
    add(tx)
    tx.do("SET", "written", "1")
    tx.do("RPUSH", "list", "a", 2, 3.5)

    tx.run(client, "write")

    assert client.get("written") == "1"
    assert client.lrange("list", 0, -1) == ["a", "2", "3.5"]


@pytest.mark.parametrize(("add", "there", "found"), BROKEN)
def test_a_guard_that_is_broken_raises_its_error_and_nothing_is_written(
    client: redis.Redis, add: Guard, there: Commands, found: str
) -> None:
    put(client, there)
    before = read_everything(client)
    tx = Transaction()
    tx.require_absent("elsewhere", "field", Broken)
    add(tx)
    tx.do("SET", "written", "1")

    with pytest.raises(Broken) as refusal:
        tx.run(client, "write")

    assert str(refusal.value) == found
    assert read_everything(client) == before


def test_the_first_broken_guard_is_the_one_that_speaks(client: redis.Redis) -> None:
    client.hset("hash", mapping={"a": "1", "b": "2"})
    tx = Transaction()
    tx.require_absent("hash", "a", lambda _: KeyError("first"))
    tx.require_absent("hash", "b", lambda _: KeyError("second"))

    with pytest.raises(KeyError, match="first"):
        tx.run(client, "write")


def test_a_transaction_that_was_carried_out_does_nothing_when_it_comes_again(client: redis.Redis) -> None:
    tx = Transaction()
    tx.only_once("record", "commit-1")
    tx.require_absent("record", "rev", Broken)
    tx.do("HSET", "record", "rev", 1, "commit", "commit-1")
    tx.do("INCR", "count")

    tx.run(client, "write")
    tx.run(client, "write")

    assert client.get("count") == "1"


def test_once_is_once_until_another_writes(client: redis.Redis) -> None:
    client.hset("record", mapping={"rev": "2", "commit": "commit-2"})
    tx = Transaction()
    tx.only_once("record", "commit-1")
    tx.require("record", "rev", 0, Broken)

    with pytest.raises(Broken):
        tx.run(client, "write")


def test_a_claim_is_given_back_once(client: redis.Redis) -> None:
    client.hset("used", mapping={"vcpus": "5", "memory_mib": "16777216"})
    client.hset("claims", "guest", '{"vcpus":2,"memory_mib":16777215}')
    tx = Transaction()
    tx.do("unclaim", "claims", "used", "guest")
    tx.do("unclaim", "claims", "used", "guest")

    tx.run(client, "give back")
    tx.run(client, "give back")

    assert client.hgetall("used") == {"vcpus": "3", "memory_mib": "1"}
    assert client.hgetall("claims") == {}


def test_a_claim_of_nothing_of_some_kind_is_given_back_too(client: redis.Redis) -> None:
    client.hset("used", mapping={"vcpus": "5", "disk_gib": "0"})
    client.hset("claims", "guest", '{"vcpus":2,"disk_gib":0}')
    put(client, (("unclaim", "claims", "used", "guest"),))
    assert client.hgetall("used") == {"vcpus": "3", "disk_gib": "0"}


def test_what_is_used_is_made_the_sum_of_the_claims(client: redis.Redis) -> None:
    client.hset("used", mapping={"vcpus": "7", "memory_mib": "-3", "pages": "1"})
    client.hset(
        "claims", mapping={"one": '{"vcpus":2,"memory_mib":16777216}', "two": '{"vcpus":1,"memory_mib":16777216}'}
    )
    put(client, (("sum", "claims", "used"), ("sum", "no claims", "nothing used")))
    assert client.hgetall("used") == {"vcpus": "3", "memory_mib": "33554432"}
    assert client.exists("nothing used") == 0


def test_an_address_is_freed_once(client: redis.Redis) -> None:
    client.hset("addresses", "10.0.0.2", "port")
    client.hset("ports", "port", "10.0.0.2")
    tx = Transaction()
    tx.do("free", "addresses", "ports", "freed", "port")

    tx.run(client, "free")
    tx.run(client, "free")

    assert read_everything(client).keys() == {"freed"}
    assert client.zrange("freed", 0, -1) == ["10.0.0.2"]


def test_only_its_owner_gives_a_name_back(client: redis.Redis) -> None:
    client.hset("names", mapping={"web": "mine", "db": "another's"})
    tx = Transaction()
    tx.do("disown", "names", "web", "mine")
    tx.do("disown", "names", "db", "mine")
    tx.do("disown", "names", "gone", "mine")

    tx.run(client, "give back")

    assert client.hgetall("names") == {"db": "another's"}


def test_a_transaction_survives_a_redis_that_forgot_its_scripts(client: redis.Redis) -> None:
    first, second = Transaction(), Transaction()
    first.do("INCR", "count")
    second.do("INCR", "count")

    first.run(client, "write")
    client.script_flush()
    second.run(client, "write")

    assert client.get("count") == "2"


def test_a_key_that_has_to_be_gone_refuses_by_its_name_whatever_its_type(client: redis.Redis) -> None:
    client.sadd("there", "x")
    tx = Transaction()
    tx.require_gone("nowhere", Refused)
    tx.require_gone("there", lambda key: Refused(f"{key} is there"))
    tx.do("SET", "written", 1)

    with pytest.raises(Refused, match="there is there"):
        tx.run(client, "test")
    assert not client.exists("written")

    client.delete("there")
    tx.run(client, "test")
    assert client.exists("written")
