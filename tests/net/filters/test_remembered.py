"""What is remembered of filtered ports, as files."""

from pathlib import Path

import pytest

from net.filters.port_rules import PortRules, Segment
from net.filters.remembered import ensure_forgotten, ensure_remembered, read_remembered
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import SecurityGroupId
from taskvisor.model.network import AddressPair

PORT = PortRules(
    tap="tap1",
    mac="fa:16:3e:00:00:01",
    addresses=("10.0.0.1", "fd00::1"),
    segment=Segment(bridge="brq1", mac="02:00:00:00:00:01", zone=7),
    pairs=(AddressPair(address="10.0.0.0/24", mac="fa:16:3e:00:00:02"), AddressPair(address="fd00::2")),
    groups=(SecurityGroupId("web"),),
)


def test_a_port_is_read_back_as_it_was_until_it_is_forgotten(tmp_path: Path) -> None:
    directory = tmp_path / "filters"
    assert read_remembered(directory, "tap1") is None
    for _ in range(2):
        ensure_remembered(directory, PORT)
        assert read_remembered(directory, "tap1") == PORT
    for _ in range(2):
        ensure_forgotten(directory, "tap1")
        assert read_remembered(directory, "tap1") is None
    assert list(directory.iterdir()) == []


def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "tap1.json").write_text("{")
    with pytest.raises(CannotAsk, match="plug the port again"):
        read_remembered(tmp_path, "tap1")
