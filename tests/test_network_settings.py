"""What an operator says of a host's interfaces, from the environment to the places that use it."""

import pytest
from pydantic import ValidationError

from taskvisor.model.network import HostLinks
from taskvisor.settings import Settings
from workers.choices import host_links_of


def test_settings_become_the_hosts_links() -> None:
    said = Settings(physical_networks="physnet1=eth1,dmz=bond0", tunnel_address="192.0.2.1")
    assert host_links_of(said) == HostLinks(uplinks={"physnet1": "eth1", "dmz": "bond0"}, tunnel_address="192.0.2.1")
    assert host_links_of(Settings()) == HostLinks()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("physical_networks", "eth1", "physnet1=eth1"),
        ("tunnel_address", "192.0.2.0/24", "must be an IPv4 or IPv6 address"),
        ("tunnel_address", "host-7", "must be an IPv4 or IPv6 address"),
    ],
)
def test_what_is_wrong_is_refused_in_words(field: str, value: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings(**{field: value})  # type: ignore[arg-type]
