"""Plug and unplug, end to end, on a real kernel."""

import os
import select
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from net.fabric import LinuxFabric
from net.links.link import TAP
from taskvisor.model.errors import Busy, Contradiction, DoesNotFit
from taskvisor.model.observed import LinkFacts
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import EMPTY, SeenLink, daemons_of, read_world, veth
from tests.net.plans import network, vif

pytestmark = pytest.mark.real


def test_a_plugged_port_has_tap_bridge_rules_and_dhcp(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    world = read_world(state_dir)
    assert world.links == {
        SeenLink(name=nic.tap, kind=TAP, alias=nic.owner, mtu=1450, master=nic.bridge, up=True),
        SeenLink(
            name=nic.bridge,
            kind="bridge",
            alias=f"taskvisor:network:{nic.network_id}",
            mtu=1450,
            master=None,
            up=True,
        ),
    }
    assert world.addresses == {f"{nic.bridge} 10.9.0.1/24"}
    assert world.listing.bridges() == {nic.bridge}
    assert world.hosts == f"{nic.mac},10.9.0.10,web-0 # {nic.port_id}\n"
    assert len(world.daemons) == 1
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert (state_dir / "net" / "forwarding").exists()
    for link in (nic.tap, nic.bridge):
        assert Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").read_text() == "1\n"
    fabric.ensure_unplugged(nic)


def test_plugging_twice_is_plugging_once(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif())
    before, daemons = read_world(state_dir), daemons_of(state_dir)
    fabric.ensure_plugged(vif())
    LinuxFabric(state_dir).ensure_plugged(vif())  # another process, which remembers nothing
    assert read_world(state_dir) == before
    assert daemons_of(state_dir) == daemons, "the running dnsmasq is adopted"
    fabric.ensure_unplugged(vif())


def test_unplugging_takes_the_last_ports_network_and_unplugging_nothing_is_success(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    fabric.ensure_unplugged(vif())
    fabric.ensure_plugged(vif(0))
    one = read_world(state_dir)
    fabric.ensure_plugged(vif(1))
    fabric.ensure_unplugged(vif(1))
    assert read_world(state_dir) == one
    fabric.ensure_unplugged(vif(0))
    assert read_world(state_dir) == EMPTY
    fabric.ensure_unplugged(vif(0))


def test_networks_do_not_disturb_each_other(fabric: LinuxFabric, state_dir: Path) -> None:
    first, second = vif(on=network(9)), vif(on=network(8))
    fabric.ensure_plugged(first)
    alone = read_world(state_dir)
    fabric.ensure_plugged(second)
    assert read_world(state_dir).listing.bridges() == {first.bridge, second.bridge}
    fabric.ensure_unplugged(second)
    assert read_world(state_dir) == alone
    fabric.ensure_unplugged(first)


def test_the_hot_path_runs_no_program(fabric: LinuxFabric, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        fabric.ensure_plugged(vif(number))

    def no_program(*_: object, **__: object) -> None:
        raise AssertionError("a program was run")

    with monkeypatch.context() as patch:
        patch.setattr("net.command._started", no_program)
        for number in range(3):
            fabric.ensure_plugged(vif(number))
    for number in range(3):
        fabric.ensure_unplugged(vif(number))


def test_links_bear_their_owners(fabric: LinuxFabric) -> None:
    nics = [vif(0), vif(1)]
    for nic in nics:
        fabric.ensure_plugged(nic)
    assert set(fabric.list_links()) == {LinkFacts(name=nic.tap, owner=nic.owner) for nic in nics}
    for nic in nics:
        fabric.ensure_unplugged(nic)
    assert fabric.list_links() == ()


def test_a_strangers_tap_is_left_alone(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with IPRoute() as ipr:
        ipr.link("add", ifname=nic.tap, kind="tuntap", mode="tap")
        index = ipr.link_lookup(ifname=nic.tap)[0]
        before = read_world(state_dir)
        with pytest.raises(Contradiction, match="somebody who set no alias"):
            fabric.ensure_plugged(nic)
        with pytest.raises(Contradiction, match=r"left\s+alone"):
            fabric.ensure_unplugged(nic)
        assert read_world(state_dir) == before
        ipr.link("del", index=index)


def test_a_strangers_bridge_is_left_alone_and_the_guests_removal_is_not_held_up_by_it(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    nic = vif()
    with IPRoute() as ipr:
        ipr.link("add", ifname=nic.bridge, kind="bridge")
        index = ipr.link_lookup(ifname=nic.bridge)[0]
        before = read_world(state_dir)
        with pytest.raises(Contradiction, match="is not the bridge of"):
            fabric.ensure_plugged(nic)
        fabric.ensure_unplugged(nic)
        assert read_world(state_dir) == before
        ipr.link("del", index=index)


def test_a_bridge_with_a_strangers_port_stays_with_its_dhcp_and_rules(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    with open_namespace(f"{state_dir.name[-8:]}"), veth("stranger", state_dir.name[-8:], bridge=nic.bridge):
        fabric.ensure_unplugged(nic)
        kept = read_world(state_dir)
        assert {link.name for link in kept.links} == {nic.bridge, "stranger"}
        assert kept.listing.bridges() == {nic.bridge}
        assert len(kept.daemons) == 1
    fabric.ensure_unplugged(nic)
    assert read_world(state_dir) == EMPTY


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dnsmasq_that_died_is_started_again(fabric: LinuxFabric, state_dir: Path, number: signal.Signals) -> None:
    fabric.ensure_plugged(vif(0))
    before = read_world(state_dir)
    _end_daemons(state_dir, number)
    fabric.ensure_plugged(vif(0))
    assert read_world(state_dir) == before
    fabric.ensure_unplugged(vif(0))


def test_a_dnsmasq_whose_pid_file_was_lost_gets_no_second_beside_it(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif(0))
    before = read_world(state_dir)
    (state_dir / "net" / "networks" / vif().network_id / "dnsmasq.pid").unlink()
    fabric.ensure_plugged(vif(0))
    assert read_world(state_dir) == before
    (state_dir / "net" / "networks" / vif().network_id / "dnsmasq.pid").unlink()
    fabric.ensure_unplugged(vif(0))
    assert read_world(state_dir) == EMPTY


def test_a_pid_file_that_names_a_stranger_does_not_harm_it(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif(0))
    _end_daemons(state_dir, signal.SIGKILL)
    with subprocess.Popen(["sh", "-c", "echo up; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"up\n"
        (state_dir / "net" / "networks" / vif().network_id / "dnsmasq.pid").write_text(f"{stranger.pid}\n")
        fabric.ensure_plugged(vif(0))
        (state_dir / "net" / "networks" / vif().network_id / "dnsmasq.pid").write_text(f"{stranger.pid}\n")
        fabric.ensure_unplugged(vif(0))
        assert stranger.poll() is None
        stranger.kill()


def test_a_bridge_removed_behind_our_back_comes_back_with_a_dnsmasq_that_listens_on_it(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    before, daemons = read_world(state_dir), daemons_of(state_dir)
    with IPRoute() as ipr:
        ipr.link("del", index=ipr.link_lookup(ifname=nic.bridge)[0])
    fabric.ensure_plugged(nic)
    assert read_world(state_dir) == before
    assert not daemons.keys() & daemons_of(state_dir).keys()
    fabric.ensure_unplugged(nic)


def test_rules_removed_behind_our_back_come_back(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif())
    fabric.ensure_plugged(vif())
    before = read_world(state_dir)
    for damage in ("flush ruleset", f"flush chain inet taskvisor to_{vif().bridge}"):
        subprocess.run(["nft", damage], check=True)
        assert read_world(state_dir) != before
        fabric.ensure_plugged(vif())
        assert read_world(state_dir) == before
    fabric.ensure_unplugged(vif())


def test_unplugging_needs_nothing_to_be_left_of_the_network(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    fabric.ensure_plugged(nic)
    with IPRoute() as ipr:
        for name in (nic.tap, nic.bridge):
            ipr.link("del", index=ipr.link_lookup(ifname=name)[0])
    _end_daemons(state_dir, signal.SIGKILL)
    subprocess.run(["nft", "flush ruleset"], check=True)
    fabric.ensure_unplugged(nic)
    assert read_world(state_dir) == EMPTY


def test_a_changed_mtu_reaches_all_links_and_the_dhcp_answer(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_plugged(vif(on=network(mtu=1450)))
    fabric.ensure_plugged(vif(on=network(mtu=1400)))
    world = read_world(state_dir)
    assert {link.mtu for link in world.links} == {1400}
    assert "--dhcp-option-force=option:mtu,1400" in world.daemons[0]
    fabric.ensure_unplugged(vif())


def test_a_network_without_dhcp_has_no_dnsmasq(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif(on=network(dhcp=False))
    fabric.ensure_plugged(nic)
    assert (read_world(state_dir).daemons, read_world(state_dir).files) == ((), frozenset())
    fabric.ensure_unplugged(nic)


def test_a_network_without_nat_switches_no_forwarding_on(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif(on=network(nat=False))
    fabric.ensure_plugged(nic)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    assert not (state_dir / "net" / "forwarding").exists()
    fabric.ensure_unplugged(nic)


def test_a_network_that_the_host_is_itself_in_does_not_fit(fabric: LinuxFabric, state_dir: Path) -> None:
    nic = vif()
    with open_namespace(state_dir.name[-8:]), veth("uplink", state_dir.name[-8:]) as index, IPRoute() as ipr:
        ipr.addr("add", index=index, address="10.9.0.77", prefixlen=24)
        with pytest.raises(DoesNotFit, match=r"uplink of this host has 10\.9\.0\.77/24"):
            fabric.ensure_plugged(nic)
        fabric.ensure_unplugged(nic)


def test_a_closed_state_directory_is_said_in_words(fabric: LinuxFabric, state_dir: Path) -> None:
    state_dir.chmod(0o700)
    with pytest.raises(DoesNotFit, match=rf"chmod o\+x {state_dir}"):
        fabric.ensure_plugged(vif())
    fabric.ensure_unplugged(vif())


def test_two_ports_with_one_address_are_a_contradiction(fabric: LinuxFabric) -> None:
    fabric.ensure_plugged(vif(0))
    twin = replace(vif(1), address=vif(0).address)
    with pytest.raises(Contradiction, match=rf"port {vif(0).port_id} on this host has it"):
        fabric.ensure_plugged(twin)
    fabric.ensure_unplugged(twin)
    fabric.ensure_unplugged(vif(0))


def test_a_network_that_another_process_holds_is_busy(
    fabric: LinuxFabric, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric.ensure_unplugged(vif())  # makes the lock file
    monkeypatch.setattr("net.locks.WAIT_LIMIT_S", 0.05)
    lock = state_dir / "net" / "locks" / vif().network_id
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(Busy, match="being changed by another process"):
            fabric.ensure_plugged(vif())
        fabric.ensure_plugged(vif(on=network(8)))  # another network is not held up
        fabric.ensure_unplugged(vif(on=network(8)))
    finally:
        holder.communicate()


def _end_daemons(state_dir: Path, number: signal.Signals) -> None:
    for pid in daemons_of(state_dir):
        pidfd = os.pidfd_open(pid)
        os.kill(pid, number)
        select.select([pidfd], [], [], 5)
        os.close(pidfd)
