"""Stores and records that this version can't read: a sentence, and all that can be read is shown."""

from pathlib import Path

import pytest

from taskvisor.cli.up import redis_answers
from taskvisor.settings import Settings, read_settings
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of

COMMANDS = (("list",), ("ops", "list"), ("images",), ("networks",), ("hosts",))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_store_that_a_newer_version_wrote_is_refused_in_words(cli: Cli, book: Book, words: tuple[str, ...]) -> None:
    book.client.set(book.keys.schema, "2")

    result = cli(*words)

    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "this store was written by a newer Taskvisor (schema 2; this one reads up to 1): upgrade this node"
        in " ".join(result.stderr.split())
    )


def test_what_can_be_read_is_shown_beside_what_cannot(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))
    book.put_image("golden")
    book.put_network("blue")
    book.put_host("host-1")
    book.client.sadd(book.keys.instances, b"i\xff")
    book.client.set(book.keys.instance("i").encode() + b"\xff", b"\xff")
    book.client.hset(book.keys.images, "lost", "x")
    book.client.set(book.keys.image("lost"), "{")
    book.client.hset(book.keys.networks, "lab", "n")
    book.client.set(book.keys.network("n"), '{"schema":2}')
    book.client.zadd(book.keys.operations, {"op-1": 1.0})
    book.client.hset(book.keys.operation("op-1"), "doc", '{"phase":"paused"}')
    told = {
        ("list",): ("web-1", "Not shown: instance i"),
        ("images",): ("golden", "Not shown: image lost does not parse"),
        ("networks",): ("blue", "Not shown: network n was written by a newer Taskvisor"),
        ("ops", "list"): ("", "Not shown: operation op-1 does not parse"),
    }

    for words, (shown, sentence) in told.items():
        result = cli(*words)
        assert result.exit_code == 0
        assert shown in result.stdout
        assert sentence in " ".join(result.stderr.split())
        assert len(json_of(cli(*words, "-f", "json"))) == (1 if shown else 0)


def test_an_operation_that_cannot_be_read_is_a_failure_and_a_sentence(cli: Cli, book: Book) -> None:
    book.client.hset(book.keys.operation("op-1"), "doc", '{"schema":2}')

    result = cli("ops", "show", "op-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "operation op-1 was written by a newer Taskvisor" in " ".join(result.stderr.split())


def test_a_redis_whose_store_is_a_newer_versions_has_answered(cli: Cli, book: Book, tmp_path: Path) -> None:
    assert redis_answers(read_settings())
    book.client.set(book.keys.schema, "2")

    assert redis_answers(read_settings())
    assert not redis_answers(Settings(redis_url=f"unix://{tmp_path}/none.sock", redis_timeout_s=0.2))
