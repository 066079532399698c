"""Networks over tunnels: hosts are namespaces on a switch, guests are namespaces behind TAPs; `bridge -j` and `ip -j` look on."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from net.plan import bridge_mac_for, joint_mac_for
from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.ids import HostName
from taskvisor.model.network import HostLinks, Network, NetworkKind, Surroundings
from tests.net.lan import LanHost, WiredGuest, asked, guest_at, no_link_is_touched
from tests.net.plans import member, network, open_vif

pytestmark = pytest.mark.real

Lan = tuple[LanHost, ...]
MOVE_LIMIT_S = 1.0
HEADERS_BYTES = 28  # IPv4 20, ICMP 8


def vxlan(number: int = 9, vni: int = 100, *, mtu: int = 1450) -> Network:
    return replace(network(number, dhcp=False, mtu=mtu), kind=NetworkKind.VXLAN, segment=vni)


def around(lan: Lan, on: Network, places: dict[int, int]) -> Surroundings:
    """Guest `number` is on host `places[number]`."""
    return Surroundings(
        network=on,
        members=tuple(member(number, on, f"h{host}") for number, host in places.items()),
        tunnels={HostName(f"h{number}"): host.address for number, host in enumerate(lan)},
    )


@contextmanager
def guests(lan: Lan, on: Network, places: dict[int, int], tag: str) -> Iterator[dict[int, WiredGuest]]:
    """Plugged, told, and running; unplugged afterwards."""
    with ExitStack() as stack:
        nics = {number: open_vif(number, on, lan[host].links) for number, host in places.items()}
        for number, host in places.items():
            lan[host].plug(nics[number])
            stack.callback(lan[host].unplug, nics[number])
        for host in set(places.values()):
            lan[host].tell(around(lan, on, places))
        yield {
            number: stack.enter_context(guest_at(lan[host], nics[number], f"{lan[0].namespace[:6]}{tag}{number}"))
            for number, host in places.items()
        }


def test_guests_of_three_hosts_reach_each_other_with_full_frames_and_no_larger_ones(lan: Lan) -> None:
    on = vxlan()
    with guests(lan, on, {0: 0, 1: 1, 2: 2}, "g") as inside:
        for number, other in ((0, 1), (1, 2), (2, 0)):
            assert inside[number].reaches(open_vif(other, on).address, payload_bytes=on.mtu - HEADERS_BYTES)
        too_large = on.mtu - HEADERS_BYTES + 1
        assert not inside[0].reaches(open_vif(1, on).address, payload_bytes=too_large, limit_s=1.0)


def test_networks_are_apart_also_where_guests_use_the_same_addresses(lan: Lan) -> None:
    blue, red = vxlan(9, 100), vxlan(8, 101)
    with guests(lan, blue, {0: 0, 1: 1}, "b") as of_blue, guests(lan, red, {2: 0, 3: 1}, "r") as of_red:
        for number in (2, 3):
            asked(of_red[number].namespace, "ip", "addr", "add", f"10.9.0.{10 + number}/24", "dev", "eth0")
        assert of_blue[0].reaches(open_vif(1, blue).address)
        assert of_red[2].reaches("10.9.0.13"), "its own network carries these addresses, too"
        assert of_blue[0].never_reaches("10.9.0.13")
        assert of_red[2].never_reaches(open_vif(1, blue).address)


def test_a_guest_that_moved_is_reached_within_a_second_of_the_word(lan: Lan) -> None:
    on = vxlan()
    with guests(lan, on, {0: 0, 1: 1, 3: 2}, "g") as inside:
        assert inside[0].reaches(open_vif(1, on).address)
        moved = open_vif(1, on, lan[2].links)
        lan[2].plug(moved)
        with guest_at(lan[2], moved, f"{lan[0].namespace[:6]}m1"):
            lan[1].unplug(open_vif(1, on, lan[1].links))
            now = around(lan, on, {0: 0, 1: 2, 3: 2})
            lan[2].tell(now)
            begun = time.monotonic()
            lan[0].tell(now)
            told_in = time.monotonic() - begun
            assert inside[0].reaches(moved.address, limit_s=MOVE_LIMIT_S)
            assert told_in < MOVE_LIMIT_S * 10  # on a loaded machine; it takes 10 ms on an idle one
            assert inside[3].reaches(moved.address), "on the host that it came to"
        lan[2].unplug(moved)


def test_the_kernel_is_told_the_records_and_nothing_else(lan: Lan) -> None:
    on = vxlan()
    one, two = around(lan, on, {0: 0, 1: 1, 2: 2}), around(lan, on, {0: 0, 1: 2})
    lan[0].plug(open_vif(0, on, lan[0].links))
    assert _flooded_to(lan[0]) == set(), "a new tunnel sends nothing anywhere"
    for told, places in ((one, {1: "192.0.2.2", 2: "192.0.2.3"}), (two, {1: "192.0.2.3"})):
        for _ in range(2):
            lan[0].tell(told)
            assert _flooded_to(lan[0]) == set(places.values())
            assert _behind(lan[0]) == {open_vif(number, on).mac: end for number, end in places.items()}
            known = {open_vif(number, on).address: open_vif(number, on).mac for number in (0, *places)}
            assert _neighbours(lan[0], open_vif(0, on).bridge) == known
    lan[0].unplug(open_vif(0, on, lan[0].links))


def test_converging_sends_only_what_differs(lan: Lan) -> None:
    on = vxlan()
    lan[0].plug(open_vif(0, on, lan[0].links))
    lan[0].tell(around(lan, on, {0: 0, 1: 1, 2: 2}))
    seen = _changes_during(lan[0], lambda: lan[0].tell(around(lan, on, {0: 0, 1: 1, 2: 2})))
    assert seen == []
    seen = _changes_during(lan[0], lambda: lan[0].tell(around(lan, on, {0: 0, 1: 2, 2: 2})))
    assert all(open_vif(1, on).mac in line or "192.0.2.2" in line for line in seen)
    assert seen
    lan[0].unplug(open_vif(0, on, lan[0].links))


def test_arp_for_the_gateway_and_for_known_guests_never_leaves_by_the_tunnel(lan: Lan) -> None:
    on = vxlan()
    with guests(lan, on, {0: 0, 1: 1}, "g") as inside, _watching(lan[1]) as seen:
        assert inside[0].reaches(on.gateway)
        assert inside[0].reaches(open_vif(1, on).address)
        lan[0].ask("ping", "-n", "-c", "1", "-W", "5", open_vif(0, on).address)  # the gateway speaks first
        assert inside[0].never_reaches("10.9.0.200"), "asked for by all who might know"
    assert "10.9.0.200" in seen[0], "the watcher sees what leaves"
    assert [line for line in seen[0].splitlines() if "who-has 10.9.0.1 " in line or "tell 10.9.0.1," in line] == []
    assert f"who-has {open_vif(1, on).address} " not in seen[0], "answered by the bridge"


def test_the_last_port_takes_tunnel_and_bridge_and_nothing_else(lan: Lan) -> None:
    on, host = vxlan(), lan[0]
    before = _links(host)
    for number in (0, 1):
        host.plug(open_vif(number, on, host.links))
    host.unplug(open_vif(0, on, host.links))
    assert {"vxlan-100", open_vif(1, on).bridge, open_vif(1, on).tap} == _links(host) - before
    host.unplug(open_vif(1, on, host.links))
    assert _links(host) == before


def test_a_strangers_link_on_the_bridge_keeps_bridge_and_tunnel(lan: Lan) -> None:
    on, host = vxlan(), lan[0]
    nic = open_vif(0, on, host.links)
    host.plug(nic)
    host.ask("ip", "link", "add", "stranger", "type", "veth", "peer", "name", "stranger2")
    host.ask("ip", "link", "set", "stranger", "master", nic.bridge)
    host.unplug(nic)
    assert {"vxlan-100", nic.bridge, "stranger"} <= _links(host)
    host.ask("ip", "link", "del", "stranger")
    host.unplug(nic)
    assert _links(host) == {"eth0"}


def test_the_gateway_is_the_same_on_every_host_and_the_tunnel_is_known_by_its_mac(lan: Lan) -> None:
    on = vxlan()
    for host in lan[:2]:
        host.plug(open_vif(0, on, host.links))
        (bridge,) = json.loads(host.ask("ip", "-j", "addr", "show", open_vif(0, on).bridge))
        assert bridge["address"] == bridge_mac_for(on.id)
        assert [held["local"] for held in bridge["addr_info"]] == ["10.9.0.1"]
        (tunnel,) = json.loads(host.ask("ip", "-d", "-j", "link", "show", "vxlan-100"))
        data = tunnel["linkinfo"]["info_data"]
        assert (data["id"], data["port"], data["local"], data["learning"]) == (100, 4789, host.address, False)
        assert (tunnel["address"], tunnel["mtu"], tunnel["master"]) == (joint_mac_for(on.id), 1450, bridge["ifname"])
        assert tunnel["ifalias"] == f"taskvisor:network:{on.id}"
        host.unplug(open_vif(0, on, host.links))


def test_a_network_whose_frames_do_not_fit_into_the_tunnel_does_not_fit(lan: Lan) -> None:
    host = lan[0]
    with pytest.raises(
        DoesNotFit, match=r"MTU of 1451, and a tunnel by eth0 of this host carries 1450 \(1500 less 50\)"
    ):
        host.plug(open_vif(0, vxlan(mtu=1451), host.links))
    host.unplug(open_vif(0, vxlan(mtu=1451), host.links))
    host.ask("ip", "addr", "add", "fd00:2::1/64", "dev", "eth0", "nodad")
    six = HostLinks(tunnel_address="fd00:2::1")
    with pytest.raises(DoesNotFit, match=r"carries 1430 \(1500 less 70\)"):
        host.plug(open_vif(0, vxlan(mtu=1431), six))
    host.plug(open_vif(0, vxlan(mtu=1430), six))
    host.unplug(open_vif(0, vxlan(mtu=1430), six))


def test_tunnels_by_ipv6_carry_full_frames(lan: Lan) -> None:
    on = vxlan(mtu=1430)
    sixes = tuple(replace(host, address=f"fd00:2::{number + 1}") for number, host in enumerate(lan[:2]))
    for host in sixes:
        host.ask("ip", "addr", "add", f"{host.address}/64", "dev", "eth0", "nodad")
    with guests(sixes, on, {0: 0, 1: 1}, "g") as inside:
        assert inside[0].reaches(open_vif(1, on).address, payload_bytes=1430 - HEADERS_BYTES)


@pytest.mark.parametrize(
    ("links", "sentence"),
    [
        (HostLinks(), "set TASKVISOR_TUNNEL_ADDRESS"),
        (HostLinks(tunnel_address="198.51.100.1"), "no interface of this host has"),
    ],
)
def test_a_host_without_an_end_of_tunnels_does_not_fit_and_no_link_is_touched(
    lan: Lan, tmp_path: Path, links: HostLinks, sentence: str
) -> None:
    with no_link_is_touched(lan[0].namespace, tmp_path), pytest.raises(DoesNotFit, match=sentence):
        lan[0].plug(open_vif(0, vxlan(), links))
    assert "vxlan-100" not in _links(lan[0])
    lan[0].unplug(open_vif(0, vxlan(), links))


def test_a_vni_that_a_stranger_has_does_not_fit_and_his_link_is_left_alone(lan: Lan) -> None:
    host, nic = lan[0], open_vif(0, vxlan(), lan[0].links)
    host.ask("ip", "link", "add", "theirs", "type", "vxlan", "id", "100", "dstport", "4789", "local", host.address)
    with pytest.raises(DoesNotFit, match=r"theirs \(alias none\) has that segment"):
        host.plug(nic)
    host.unplug(nic)
    assert _links(host) == {"eth0", "theirs"}


def test_a_strangers_link_of_the_tunnels_name_is_left_alone(lan: Lan) -> None:
    host, nic = lan[0], open_vif(0, vxlan(), lan[0].links)
    host.ask("ip", "link", "add", "vxlan-100", "type", "vxlan", "id", "100", "dstport", "4789", "local", host.address)
    with pytest.raises(Contradiction, match="left alone"):
        host.plug(nic)
    host.tell(around(lan, vxlan(), {0: 0, 1: 1}))
    host.unplug(nic)
    assert _links(host) == {"eth0", "vxlan-100"}
    assert "dst" not in host.ask("bridge", "fdb", "show", "dev", "vxlan-100")


def test_a_tunnel_address_that_was_changed_under_running_guests_is_said(lan: Lan) -> None:
    host, on = lan[0], vxlan()
    host.plug(open_vif(0, on, host.links))
    host.ask("ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
    with pytest.raises(DoesNotFit, match=r"ends at 192\.0\.2\.1, and TASKVISOR_TUNNEL_ADDRESS is 192\.0\.2\.77"):
        host.plug(open_vif(1, on, HostLinks(tunnel_address="192.0.2.77")))
    host.unplug(open_vif(1, on, host.links))
    host.unplug(open_vif(0, on, host.links))


def test_a_host_without_ports_of_the_network_is_not_touched(lan: Lan) -> None:
    before = lan[0].ask("ip", "-j", "link")
    lan[0].tell(around(lan, vxlan(), {0: 1, 1: 2}))
    assert lan[0].ask("ip", "-j", "link") == before


def _links(host: LanHost) -> set[str]:
    return {link["ifname"] for link in json.loads(host.ask("ip", "-j", "link"))} - {"lo", "stranger2"}


def _fdb(host: LanHost) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(host.ask("bridge", "-j", "fdb", "show", "dev", "vxlan-100"))
    return found


def _flooded_to(host: LanHost) -> set[str]:
    return {entry["dst"] for entry in _fdb(host) if entry["mac"] == "00:00:00:00:00:00"}


def _behind(host: LanHost) -> dict[str, str]:
    """The ends by MAC; each MAC must be in the tunnel's table and in the bridge's."""
    entries = [entry for entry in _fdb(host) if entry["mac"] != "00:00:00:00:00:00"]
    ends = {entry["mac"]: entry["dst"] for entry in entries if "dst" in entry}
    assert {entry["mac"] for entry in entries if "master" in entry and entry["state"] == "static"} == set(ends)
    return ends


def _neighbours(host: LanHost, bridge: str) -> dict[str, str]:
    found = json.loads(host.ask("ip", "-j", "neigh", "show", "dev", bridge, "nud", "permanent"))
    return {entry["dst"]: entry["lladdr"] for entry in found}


def _changes_during(host: LanHost, act: object) -> list[str]:
    """What the kernel told of entries that were changed meanwhile."""
    assert callable(act)
    with subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, "bridge", "monitor", "fdb"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        mark = "02:0f:0f:0f:0f:0f"
        for word in ("add", "del"):  # what is seen of these two is the proof that the monitor listens
            _fdb_until_seen(host, monitor, word, mark)
        act()
        host.ask("bridge", "fdb", "add", mark, "dev", "vxlan-100", "dst", "192.0.2.99", "self")
        seen = []
        while mark not in (line := monitor.stdout.readline()):
            seen.append(line.strip())
        host.ask("bridge", "fdb", "del", mark, "dev", "vxlan-100", "dst", "192.0.2.99", "self")
        monitor.terminate()
    return seen


def _fdb_until_seen(host: LanHost, monitor: "subprocess.Popen[str]", word: str, mark: str) -> None:
    assert monitor.stdout is not None
    time.sleep(
        0.3
    )  # no word is given of when `bridge monitor` listens; without it the next read would fail, never pass
    host.ask("bridge", "fdb", word, mark, "dev", "vxlan-100", "dst", "192.0.2.99", "self")
    assert mark in monitor.stdout.readline()


@contextmanager
def _watching(host: LanHost) -> Iterator[list[str]]:
    """What arrives of ARP inside tunnels at the host, as tcpdump says it, once the block has ended."""
    seen: list[str] = []
    argv = ["tcpdump", "-l", "-n", "-i", "vxlan-100", "-Q", "in", "arp"]
    with subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as dump:
        assert dump.stderr is not None
        while "listening on" not in dump.stderr.readline():
            pass
        yield seen
        dump.terminate()
        seen.append(dump.communicate(timeout=30)[0])
