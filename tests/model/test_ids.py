"""Identities follow from one another. The literal values are stored in fleets that exist: they never change."""

import re
import uuid

import pytest

from taskvisor.model.ids import (
    OPERATION_ID_RULE,
    InstanceId,
    OperationId,
    PortId,
    image_id_for,
    instance_id_for,
    mac_for,
    message_id_for,
    network_id_for,
    port_id_for,
)

OP = OperationId("build-web")
GUEST = InstanceId("f426b70e-7e4d-54f8-836a-90454ef4c8db")
PORT = PortId("8a7903c7-6f81-5ab9-901d-25cd8b04cff9")


def test_a_request_repeated_names_the_same_things() -> None:
    assert instance_id_for(OP) == GUEST
    assert port_id_for(GUEST, 0) == PORT
    assert mac_for(PORT) == "52:54:8b:04:cf:f9"
    assert network_id_for("default") == "cd41c825-8639-5d43-a77c-edaef0f73945"
    assert image_id_for(OperationId("op-instance.snapshot")) == "f94e5130-469f-5282-ad5c-43c7a753d879"


def test_things_of_different_kinds_or_parents_have_different_ids() -> None:
    ids = [
        instance_id_for(OP),
        image_id_for(OP),
        network_id_for(OP),
        *(port_id_for(GUEST, index) for index in range(8)),
        *(instance_id_for(OperationId(f"build-{number}")) for number in range(100)),
        message_id_for(OP, "plug_vif", "do", 1),
        message_id_for(OP, "plug_vif", "do", 2),
        message_id_for(OP, "plug_vif", "undo", 1),
    ]

    assert len(set(ids)) == len(ids)
    assert all(uuid.UUID(one).version == 5 for one in ids)


@pytest.mark.parametrize("number", range(20))
def test_a_mac_is_unicast_and_locally_administered(number: int) -> None:
    mac = mac_for(port_id_for(GUEST, number))

    assert re.fullmatch(r"52:54(:[0-9a-f]{2}){4}", mac)
    assert int(mac[:2], 16) & 0b11 == 0b10


@pytest.mark.parametrize("good", ["a", "7", str(uuid.UUID(int=0)), "build-web.1:x_y", "a" * 128])
def test_a_task_id_may_be_a_uuid_or_a_plain_word(good: str) -> None:
    assert OPERATION_ID_RULE.fullmatch(good)


@pytest.mark.parametrize("bad", ["", "-a", "a b", "a\n", "a/b", "a" * 129, "é", 'a"', "{a}"])
def test_a_task_id_with_anything_else_is_none_of_ours(bad: str) -> None:
    assert OPERATION_ID_RULE.fullmatch(bad) is None
