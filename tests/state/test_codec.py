"""Records to JSON and back."""

import msgspec
import pytest
import structlog

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.network import Network
from taskvisor.model.operation import SCHEMA_VERSION, Operation
from taskvisor.model.records import Host, Image, Instance, Inventory
from taskvisor.state.codec import decode, decode_each, decode_operation, encode, log_unreadable
from tests.support.records import NETWORK, image, instance, inventory, operation

RECORDS = [
    (instance(), Instance),
    (image(), Image),
    (NETWORK, Network),
    (inventory(), Inventory),
    (operation("op", instance()), Operation),
]


@pytest.mark.parametrize(("record", "kind"), RECORDS)
def test_a_record_read_back_is_the_same_record(record: object, kind: type[object]) -> None:
    assert decode(encode(record), kind, "it") == record
    assert encode(decode(encode(record), kind, "it")) == encode(record)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', '{"name": 5}'])
def test_what_does_not_parse_is_refused_in_words(text: str) -> None:
    with pytest.raises(UnreadableRecord, match="the host does not parse: "):
        decode(text, Host, "the host")


def test_an_operation_of_this_schema_is_read_and_of_the_next_refused() -> None:
    now, next_one = (operation("op", instance(), schema=SCHEMA_VERSION + newer) for newer in (0, 1))

    assert decode_operation(encode(now), "op") == now
    with pytest.raises(UnreadableRecord, match="upgrade this node"):
        decode_operation(encode(next_one), "op")


@pytest.mark.parametrize(("record", "kind"), RECORDS)
def test_a_record_of_the_next_schema_is_refused_in_words(record: object, kind: type[object]) -> None:
    newer = msgspec.json.decode(encode(record)) | {"schema": SCHEMA_VERSION + 1}

    with pytest.raises(UnreadableRecord) as refusal:
        decode(encode(newer), kind, "it")

    assert str(refusal.value) == (
        "it was written by a newer Taskvisor (schema 2; this one reads up to 1); upgrade this node"
    )


@pytest.mark.parametrize(("record", "kind"), RECORDS)
def test_fields_that_this_version_does_not_know_are_passed_over(record: object, kind: type[object]) -> None:
    richer = msgspec.json.decode(encode(record)) | {"since_next_year": {"a": [1]}}

    assert decode(encode(richer), kind, "it") == record


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (instance(), "vm_state", "hibernating"),
        (instance(), "task_state", "teleporting"),
        (instance(), "power_state", 99),
        (instance(), "virt_type", "xen"),
        (NETWORK, "kind", "token-ring"),
        (inventory(), "virt_type", "xen"),
        (operation("op", instance()), "phase", "paused"),
    ],
)
def test_a_word_that_this_version_does_not_know_is_refused_in_words(record: object, field: str, value: object) -> None:
    newer = msgspec.json.decode(encode(record)) | {field: value}

    with pytest.raises(UnreadableRecord) as refusal:
        decode(encode(newer), type(record), "it")

    assert str(refusal.value).startswith("it does not parse: Invalid enum value")
    assert str(refusal.value).endswith(f"- at `$.{field}`; if a newer Taskvisor wrote it, upgrade this node")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"schema":"two"}', '{"schema":9e999}', "\udcff", "\x00"]
)
def test_rubbish_is_refused_in_words(text: str) -> None:
    with pytest.raises(UnreadableRecord, match="it does not parse"):
        decode(text, Instance, "it")


def test_a_list_leaves_out_what_cannot_be_read_and_tells_of_it() -> None:
    told: list[str] = []
    found = [
        ("image a", encode(image("a"))),
        ("image b", "{"),
        ("image c", None),
        ("image d", RuntimeError("WRONGTYPE")),
        ("image e", encode(image("e"))),
    ]

    read = list(decode_each(found, Image, lambda problem: told.append(str(problem))))

    assert read == [image("a"), image("e")]
    assert told == ["image b does not parse: Input data was truncated", "image d can't be read: WRONGTYPE"]


def test_a_record_that_is_left_out_is_in_the_log_unless_told_otherwise() -> None:
    with structlog.testing.capture_logs() as logs:
        log_unreadable(UnreadableRecord("image b does not parse"))

    assert logs == [{"event": "record_unreadable", "log_level": "error", "reason": "image b does not parse"}]
