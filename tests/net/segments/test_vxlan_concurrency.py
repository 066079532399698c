"""Several processes on one host, as a worker's pool is, with ports of one network over a tunnel."""

from functools import partial
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.ids import HostName
from taskvisor.model.network import HostLinks, Surroundings
from tests.contract.processes import repeat_at_once
from tests.net.hosts import EMPTY, read_world
from tests.net.plans import member, vif
from tests.net.segments.test_vxlan import vxlan

pytestmark = pytest.mark.real

HERE = HostLinks(tunnel_address="127.0.0.1")
ROUNDS = 4


def test_ports_come_and_go_while_the_host_is_told_of_others(host_namespace: str, tmp_state_dir: Path) -> None:
    on = vxlan()
    ends = {HostName("here"): "127.0.0.1", HostName("there"): "192.0.2.2", HostName("yonder"): "192.0.2.3"}

    def told(host: str) -> Surroundings:
        """Guest 9 is on that host."""
        return Surroundings(network=on, members=(member(0, on, "here"), member(9, on, host)), tunnels=ends)

    def life(number: int) -> list[tuple[str, tuple[object, ...]]]:
        nic = vif(number, on, HERE)
        return [
            ("ensure_plugged", (nic,)),
            ("ensure_surroundings", (told("there"),)),
            ("ensure_surroundings", (told("yonder"),)),
            ("ensure_unplugged", (nic,)),
        ] * ROUNDS

    open_port = partial(LinuxFabric, tmp_state_dir)
    repeat_at_once(open_port, [life(0), life(1), life(2)], passed_over=())
    assert read_world(tmp_state_dir) == EMPTY
    open_port().ensure_plugged(vif(0, on, HERE))
    repeat_at_once(open_port, [[("ensure_surroundings", (told(host),))] * ROUNDS for host in ("there", "yonder")])
    open_port().ensure_surroundings(told("yonder"))
    ways = read_world(tmp_state_dir).ways
    assert {way.split()[-1] for way in ways if way.startswith("tunnel ")} == {"192.0.2.3"}
    open_port().ensure_unplugged(vif(0, on, HERE))
    assert read_world(tmp_state_dir) == EMPTY
