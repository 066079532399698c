"""How large a frame may be, from a guest to its gateway and its neighbour: what the network says, and not a byte more."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.network import Network
from tests.fixtures.machine import run_or_fail
from tests.net.guest import open_guest
from tests.net.plans import network, vif
from tests.net.tap_guest import open_tap_guest

pytestmark = pytest.mark.real

LIMIT_S = 60.0
HEADERS = 28  # IPv4 and ICMP
MTU_OPTION = 26  # RFC 2132 §5.1


@pytest.mark.parametrize("mtu", [1280, 1450, 1500, 9000])
def test_tap_bridge_and_dhcp_have_the_networks_mtu(fabric: LinuxFabric, mtu: int) -> None:
    nic = vif(on=network(mtu=mtu))
    with plugged(fabric, network(mtu=mtu), 1), open_guest(nic.tap, nic.mac) as guest:
        assert {mtu_of(nic.tap), mtu_of(nic.bridge)} == {mtu}
        assert int.from_bytes(guest.lease().options[MTU_OPTION]) == mtu


@pytest.mark.parametrize("mtu", [1450, 9000])
def test_the_largest_frame_passes_whole_and_one_byte_more_does_not(
    fabric: LinuxFabric, state_dir: Path, mtu: int
) -> None:
    on = network(mtu=mtu, dhcp=False)
    name = state_dir.name[-8:]
    with plugged(fabric, on, 2), ExitStack() as stack:
        first, _ = (stack.enter_context(open_tap_guest(vif(number, on), f"{name}{number}")) for number in (0, 1))
        for there in (on.gateway, vif(1, on).address):
            assert "0% packet loss" in ping(first, there, mtu - HEADERS)
            assert re.search(r"message too long|too long, mtu", ping(first, there, mtu - HEADERS + 1))


def test_a_network_whose_mtu_grows_is_that_large_with_the_next_plug(fabric: LinuxFabric) -> None:
    with plugged(fabric, network(mtu=1450), 1):
        for mtu in (9000, 1400):
            nic = vif(on=network(mtu=mtu))
            fabric.ensure_plugged(nic)
            assert {mtu_of(nic.tap), mtu_of(nic.bridge)} == {mtu}


@contextmanager
def plugged(fabric: LinuxFabric, on: Network, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for number in range(count):
            fabric.ensure_plugged(vif(number, on))
            stack.callback(fabric.ensure_unplugged, vif(number, on))
        yield


def ping(namespace: str, there: str, payload_bytes: int) -> str:
    """What ping says of one request that must not be fragmented (retried for the first, which asks for an address first)."""
    argv = f"ip netns exec {namespace} ping -n -c 2 -W 20 -M do -s {payload_bytes} {there}"
    return run_or_fail(["sh", "-c", f"{argv} 2>&1 || true"], limit_s=LIMIT_S)


def mtu_of(link: str) -> int:
    (found,) = json.loads(run_or_fail(["ip", "-j", "link", "show", link], limit_s=LIMIT_S))
    return int(found["mtu"])
