"""What may be asked of one NIC: what is wrong is refused with field, value and rule."""

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.interface_spec import AttachInterfaceSpec
from taskvisor.model.network import AddressPair, Bandwidth, Qos
from taskvisor.model.spec import BuildSpec, NicSpec, parse_spec, request_as_now, request_of


def test_a_nic_that_asks_for_nothing_leaves_its_groups_to_its_network_and_may_speak_as_itself_only() -> None:
    nic = parse_spec(NicSpec, {"network": "blue"})
    assert (nic.security_groups, nic.allowed_pairs, nic.anti_spoofing, nic.qos, nic.queues) == (
        None,
        (),
        True,
        None,
        1,
    )


def test_addresses_are_taken_in_their_canonical_form() -> None:
    asked = {
        "network": "blue",
        "address6": "FD00:0:0::5",
        "allowed_pairs": [{"address": "10.0.0.7/32"}, {"address": "fd00::/64", "mac": "52:54:00:00:00:01"}],
    }
    nic = parse_spec(NicSpec, asked)
    assert nic.address6 == "fd00::5"
    assert [pair.pair() for pair in nic.allowed_pairs] == [
        AddressPair(address="10.0.0.7"),
        AddressPair(address="fd00::/64", mac="52:54:00:00:00:01"),
    ]


def test_limits_are_of_one_direction_each() -> None:
    nic = parse_spec(NicSpec, {"network": "blue", "qos": {"outbound": {"average_kib_s": 10, "peak_kib_s": 20}}})
    assert nic.qos is not None
    assert nic.qos.qos() == Qos(outbound=Bandwidth(average_kib_s=10, peak_kib_s=20))
    empty = parse_spec(NicSpec, {"network": "blue", "qos": {}})
    assert empty.qos is not None
    assert empty.qos.qos() is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"address6": "10.0.0.5"}, "address6: '10.0.0.5': must be an IPv6 address"),
        ({"security_groups": ["a b"]}, "security_groups"),
        ({"security_groups": ["g"] * 17}, "at most 16"),
        ({"allowed_pairs": [{"address": "10.0.0.7/8"}]}, "must be an address or a network"),
        ({"allowed_pairs": [{"address": "10.0.0.7", "mac": "01:00:5e:00:00:01"}]}, "mac"),
        ({"allowed_pairs": [{"address": "10.0.0.7"}] * 33}, "at most 32"),
        ({"anti_spoofing": "no"}, "anti_spoofing"),
        ({"qos": {"inbound": {"average_kib_s": 0}}}, "average_kib_s"),
        ({"qos": {"inbound": {"average_kib_s": 9, "peak_kib_s": 3}}}, "must be at least average_kib_s"),
        ({"queues": -1}, "queues"),
        ({"queues": 257}, "queues"),
        ({"speed": 9}, "speed: unknown field"),
    ],
)
def test_what_is_wrong_is_refused_by_field_and_rule(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse_spec(AttachInterfaceSpec, {"instance": "web", "interface": {"network": "blue", **wrong}})


def test_two_nics_of_a_build_never_ask_for_one_address() -> None:
    nics = [{"network": "blue", "address6": "fd00::5"}, {"network": "blue", "address6": "fd00:0::5"}]
    with pytest.raises(Refused, match="the same address6 is asked for twice"):
        parse_spec(BuildSpec, {"name": "web", "image": "gold", "networks": nics})


def test_a_request_that_was_recorded_before_there_was_more_to_ask_is_the_same_request() -> None:
    asked = {"name": "web", "image": "gold", "networks": [{"network": "blue", "mac": None, "address": "10.0.0.5"}]}
    now = request_of(
        parse_spec(
            BuildSpec, {"name": "web", "image": "gold", "networks": [{"network": "blue", "address": "10.0.0.5"}]}
        )
    )
    assert request_as_now(BuildSpec, asked) == now
