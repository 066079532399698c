"""A machine on the outer network of the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.fixtures.namespaces import open_namespace
from tests.net.filters.outer import HOST, OUTSIDE
from tests.net.hosts import veth


@pytest.fixture
def outside(state_dir: Path) -> Iterator[str]:
    """The namespace of a machine at OUTSIDE, beside the host's HOST; it has no way to the guests' own addresses."""
    name = f"{state_dir.name[-8:]}o"
    with open_namespace(name), veth("uplink", name) as index:
        with IPRoute() as host:
            host.addr("add", index=index, address=HOST, prefixlen=24)
        with IPRoute(netns=name) as outer:
            peer = outer.link_lookup(ifname="eth0")[0]
            outer.link("set", index=peer, state="up")
            outer.addr("add", index=peer, address=OUTSIDE, prefixlen=24)
        yield name
