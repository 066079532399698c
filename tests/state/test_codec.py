"""Records to JSON and back."""

import pytest

from taskvisor.model.errors import UnreadableRecord
from taskvisor.model.operation import SCHEMA_VERSION, Operation
from taskvisor.model.records import Host, Image, Instance, Inventory, Network
from taskvisor.state.codec import decode, decode_operation, encode
from tests.support.records import NETWORK, image, instance, inventory, operation


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (instance(), Instance),
        (image(), Image),
        (NETWORK, Network),
        (inventory(), Inventory),
        (operation("op", instance()), Operation),
    ],
)
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
