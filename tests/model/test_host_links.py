"""What an operator says of a host's interfaces."""

import pytest

from taskvisor.model.host_links import parse_physical_networks


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("physnet1=eth1", {"physnet1": "eth1"}),
        ("physnet1=eth1, dmz=bond0.7", {"physnet1": "eth1", "dmz": "bond0.7"}),
    ],
)
def test_interfaces_are_named_by_physical_network(text: str, found: dict[str, str]) -> None:
    assert parse_physical_networks(text) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("eth1", "not 'eth1'"),
        ("physnet1=", "not 'physnet1='"),
        ("=eth1", "not '=eth1'"),
        ("physnet1=a/b", "not 'physnet1=a/b'"),
        ("physnet1=..", r"not 'physnet1=\.\.'"),
        ("physnet1=eth1:2", "not 'physnet1=eth1:2'"),
        ("physnet1=sixteen-bytes-xx", "at most 15 bytes"),
        ("a=eth1,a=eth2", "'a=eth2' is one too many"),
        ("a=eth1,b=eth1", "'b=eth1' is one too many"),
    ],
)
def test_what_is_wrong_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_physical_networks(text)
