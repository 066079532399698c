"""What guests get, asked through their own TAPs."""

import multiprocessing
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from net.services.dnsmasq import Lease, parse_leases
from taskvisor.model.plan import VifPlan
from tests.net.guest import ACK, DISCOVER, SILENCE_S, open_guest
from tests.net.hosts import daemons_of, guest_on
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

NETMASK, ROUTER, DNS, HOSTNAME, MTU = 1, 3, 6, 12, 26


def test_a_known_mac_gets_its_address_router_dns_name_and_mtu(fabric: LinuxFabric) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    with open_guest(nic.tap, nic.mac) as guest:
        answer = guest.lease()
    assert answer.kind == ACK
    assert answer.address == "10.9.0.10"
    assert answer.addresses(NETMASK) == ("255.255.255.0",)
    assert answer.addresses(ROUTER) == ("10.9.0.1",)
    assert answer.addresses(DNS) == ("10.9.0.1",)
    assert answer.options[HOSTNAME] == b"web-0"
    assert answer.options[MTU] == (1450).to_bytes(2, "big")
    fabric.ensure_unplugged(nic)


def test_an_unknown_mac_gets_nothing(fabric: LinuxFabric) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    with open_guest(nic.tap, "52:54:00:de:ad:01") as stranger:
        assert stranger.ask(DISCOVER, limit_s=SILENCE_S) is None
    fabric.ensure_unplugged(nic)


def test_each_of_many_guests_gets_its_own(fabric: LinuxFabric) -> None:
    nics = [vif(number) for number in range(5)]
    for nic in nics:
        fabric.ensure_plugged(nic)
    assert [_address_of(nic) for nic in nics] == [nic.address for nic in nics]
    for nic in nics:
        fabric.ensure_unplugged(nic)


def test_a_network_that_names_dns_servers_hands_them_out(fabric: LinuxFabric) -> None:
    nic = vif(on=network(dns=("192.0.2.53", "192.0.2.54")))
    fabric.ensure_plugged(nic)
    with open_guest(nic.tap, nic.mac) as guest:
        assert guest.lease().addresses(DNS) == ("192.0.2.53", "192.0.2.54")
    fabric.ensure_unplugged(nic)


def test_a_network_without_nat_names_no_router(fabric: LinuxFabric) -> None:
    nic = vif(on=network(nat=False))
    fabric.ensure_plugged(nic)
    with open_guest(nic.tap, nic.mac) as guest:
        assert guest.lease().addresses(ROUTER) == ()
    fabric.ensure_unplugged(nic)


def test_a_mac_is_forgotten_with_its_port(fabric: LinuxFabric) -> None:
    stays, goes = vif(0), vif(1)
    fabric.ensure_plugged(stays)
    fabric.ensure_plugged(goes)
    assert _address_of(goes) == goes.address
    fabric.ensure_unplugged(goes)
    with open_guest(stays.tap, goes.mac) as ghost:
        assert ghost.ask(DISCOVER, limit_s=SILENCE_S) is None
    fabric.ensure_unplugged(stays)


def test_an_address_of_a_removed_port_serves_the_next_one_at_once(fabric: LinuxFabric, state_dir: Path) -> None:
    stays, goes, comes = vif(0), vif(1), _heir_of(vif(1))
    for nic in (stays, goes):
        fabric.ensure_plugged(nic)
    assert _address_of(goes) == goes.address
    before = daemons_of(state_dir)
    fabric.ensure_unplugged(goes)
    _wait_until_no_lease(state_dir, goes)
    fabric.ensure_plugged(comes)
    assert _address_of(comes) == goes.address
    assert daemons_of(state_dir) == before, "the lease was released, so no restart was needed"
    for nic in (stays, comes):
        fabric.ensure_unplugged(nic)


def test_a_lease_that_nobody_released_is_dropped_and_no_other(
    fabric: LinuxFabric, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, goes, comes = vif(0), vif(1), _heir_of(vif(1))
    for nic in (stays, goes):
        fabric.ensure_plugged(nic)
        assert _address_of(nic) == nic.address
    monkeypatch.setattr("net.services.dhcp.send_release", lambda **_: None)  # the packet is lost
    fabric.ensure_unplugged(goes)
    fabric.ensure_plugged(comes)
    assert {lease.mac for lease in _leases(state_dir, stays)} == {stays.mac}
    assert _address_of(comes) == goes.address
    for nic in (stays, comes):
        fabric.ensure_unplugged(nic)


def test_leases_survive_the_daemon(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif())
    assert _address_of(vif()) == vif().address
    before = _leases(state_dir, vif())
    changed = vif(on=network(mtu=1400))  # a changed network: another daemon
    daemons = daemons_of(state_dir)
    fabric.ensure_plugged(changed)
    assert not daemons.keys() & daemons_of(state_dir).keys()
    assert _leases(state_dir, changed) == before
    fabric.ensure_unplugged(changed)


def test_a_daemon_with_leases_survives_any_number_of_plugs(fabric: LinuxFabric, state_dir: Path) -> None:
    """Each plug sends a SIGHUP, and dnsmasq 2.90 dies of one when a host with a lease bears a tag."""
    fabric.ensure_plugged(vif())
    before = daemons_of(state_dir)
    for _ in range(5):
        assert _address_of(vif()) == vif().address  # it answers, so it has lived through the last signal
        fabric.ensure_plugged(vif())
    assert daemons_of(state_dir) == before
    fabric.ensure_unplugged(vif())


def test_guests_find_each_other_by_name(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    assert _address_of(nic) == nic.address
    with guest_on(nic.bridge, state_dir.name[-8:], "10.9.0.99", "10.9.0.1") as neighbour:
        said = subprocess.run(
            ["ip", "netns", "exec", neighbour, "busybox", "nslookup", "-type=a", "web-0", "10.9.0.1"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    assert "10.9.0.10" in said.stdout
    fabric.ensure_unplugged(nic)


def test_dnsmasq_outlives_the_worker_in_a_session_of_its_own_and_without_roots_rights(state_dir: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=LinuxFabric(state_dir).ensure_plugged, args=(vif(),))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 0
    (pid,) = daemons_of(state_dir)
    assert os.getsid(pid) not in (os.getsid(0), worker.pid)
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    LinuxFabric(state_dir).ensure_unplugged(vif())


def _heir_of(nic: VifPlan) -> VifPlan:
    """Another port that gets the same address."""
    return replace(vif(40), address=nic.address)


def _address_of(nic: VifPlan) -> str:
    with open_guest(nic.tap, nic.mac) as guest:
        return guest.lease().address


def _leases(state_dir: Path, nic: VifPlan) -> tuple[Lease, ...]:
    return parse_leases((state_dir / "net" / "networks" / nic.network_id / "leases").read_text())


def _wait_until_no_lease(state_dir: Path, nic: VifPlan) -> None:
    deadline = time.monotonic() + 5
    while any(lease.mac == nic.mac for lease in _leases(state_dir, nic)):
        assert time.monotonic() < deadline, "the lease was not released"
        time.sleep(0.01)
