"""NICs as they are typed at `launch --network` and `interface attach`."""

import pytest

from taskvisor.cli.exits import UsageError
from taskvisor.cli.nics import KEYS, NIC_HELP, nic_for
from taskvisor.model.spec import NicSpec, parse_spec


def test_a_nic_is_typed_as_its_network_and_its_options() -> None:
    assert nic_for("blue") == "blue"
    assert nic_for("blue,mac=52:54:00:00:00:01,address=10.0.0.7,address6=fd00::5,group=web,group=ssh,queues=4") == {
        "network": "blue",
        "mac": "52:54:00:00:00:01",
        "address": "10.0.0.7",
        "address6": "fd00::5",
        "security_groups": ["web", "ssh"],
        "queues": 4,
    }
    assert nic_for("blue,group=none") == {"network": "blue", "security_groups": []}


def test_limits_are_typed_as_average_peak_and_burst_of_each_direction() -> None:
    assert nic_for("blue,in=1024,out=1024/4096/512") == {
        "network": "blue",
        "qos": {
            "inbound": {"average_kib_s": 1024},
            "outbound": {"average_kib_s": 1024, "peak_kib_s": 4096, "burst_kib": 512},
        },
    }


def test_further_senders_are_typed_as_their_addresses_and_macs() -> None:
    assert nic_for("blue,pair=10.0.0.9,pair=10.0.1.0/24@52:54:00:00:00:09,anti_spoofing=yes") == {
        "network": "blue",
        "allowed_pairs": [{"address": "10.0.0.9"}, {"address": "10.0.1.0/24", "mac": "52:54:00:00:00:09"}],
        "anti_spoofing": True,
    }


def test_all_that_can_be_typed_is_what_a_request_takes() -> None:
    typed = "blue,mac=52:54:00:00:00:01,address=10.0.0.7,address6=fd00::5,queues=4,in=8,out=8/9,pair=10.0.0.9,anti_spoofing=no"
    fields = nic_for(typed)
    assert isinstance(fields, dict)
    asked = parse_spec(NicSpec, dict(fields))
    assert (asked.queues, asked.anti_spoofing, asked.allowed_pairs[0].address) == (4, False, "10.0.0.9")
    assert all(key in NIC_HELP for key in KEYS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blue,size=1", "'size' is none of mac, address, address6, group, queues, pair, anti_spoofing, in, out"),
        ("blue,network=red", "'network' is none of"),
        ("blue,address=10.0.0.5,address=10.0.0.6", "address is given twice"),
        ("blue,mac", "mac must be followed by = and a value"),
        ("blue,mac=", "mac must be followed by = and a value"),
        ("blue,queues=many", "queues must be a number, not 'many'"),
        ("blue,in=1/2/3/4", "in must be AVERAGE, AVERAGE/PEAK or AVERAGE/PEAK/BURST"),
        ("blue,out=10mbit", "out must be a number, not '10mbit'"),
        ("blue,anti_spoofing=off", "anti_spoofing must be yes or no"),
    ],
)
def test_what_is_typed_wrong_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        nic_for(text, "NETWORK")
    assert str(error.value).startswith(f"NETWORK {text!r}: ")
    assert said in str(error.value)
