"""What a NIC on Open vSwitch is planned as: pure."""

from dataclasses import replace

import pytest

from net.ovs.plan import switch_port_for
from taskvisor.model.errors import Refused
from tests.net.ovs.plans import BRIDGE, nic, switched
from tests.net.plans import network


def test_the_port_is_called_after_its_tap_and_is_on_the_operators_bridge() -> None:
    port = switch_port_for(nic())
    assert (port.name, port.bridge, port.tag, port.owner) == (nic().tap, BRIDGE, 100, nic().owner)


@pytest.mark.parametrize(
    ("on", "reason"),
    [
        (replace(switched(), bridge=None), "which no link can be called"),
        (switched(bridge="a-name-of-16-byt"), "use 1 to 15 bytes"),
        (switched(tag=0), "is 0; a VLAN is from 1 to 4094"),
        (switched(tag=4095), "is 4095; a VLAN"),
    ],
)
def test_a_network_that_no_switch_has_is_refused(on: object, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        nic(on=on)  # type: ignore[arg-type]


def test_networks_of_other_kinds_need_no_bridge() -> None:
    assert nic(on=network()).bridge.startswith("brq")
