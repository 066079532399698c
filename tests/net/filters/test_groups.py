"""Security groups, by the frames and the connections that they let pass: guests with an IP stack behind the fabric's TAPs."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkParamHeartbeatInfo
from scapy.packet import Packet, Raw

from net.fabric import LinuxFabric
from net.filters.host_services import METADATA_ADDRESS
from net.filters.port_filters import read_port_listing
from taskvisor.model.ids import HostName, SecurityGroupId
from taskvisor.model.network import Direction, IpFamily, Member, SecurityGroup, SecurityRule, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net.hosts import EMPTY, read_world, run_in
from tests.net.plans import network, vif
from tests.net.wired import Wired, arrivals, wired

pytestmark = pytest.mark.real

WEB, OPS = (
    SecurityGroupId("11111111-0000-4000-8000-000000000001"),
    SecurityGroupId("22222222-0000-4000-8000-000000000002"),
)
CLIENT = replace(vif(0), address6="fd00:9::10", security_groups=(OPS,))
SERVER = replace(vif(1), address6="fd00:9::11", security_groups=(WEB,))
OUT = SecurityRule(direction=Direction.EGRESS, family=IpFamily.V4)
OUT6 = replace(OUT, family=IpFamily.V6)
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4)
IN6 = replace(IN, family=IpFamily.V6)
ANSWER_LIMIT_S = 20.0
SILENCE_S = 0.5
OPEN = Ether(src=CLIENT.mac, dst=SERVER.mac) / ARP(hwsrc=CLIENT.mac, psrc=CLIENT.address) / Raw(b"the-way-is-open")


def _v4(upper: Packet) -> Packet:
    return Ether(src=CLIENT.mac, dst=SERVER.mac) / IP(src=CLIENT.address, dst=SERVER.address) / upper


def _v6(upper: Packet) -> Packet:
    return Ether(src=CLIENT.mac, dst=SERVER.mac) / IPv6(src="fd00:9::10", dst="fd00:9::11") / upper


PROBES: dict[str, Packet] = {
    "tcp 22": _v4(TCP(sport=1022, dport=22)),
    "tcp 80": _v4(TCP(sport=1080, dport=80)),
    "tcp 89": _v4(TCP(sport=1089, dport=89)),
    "tcp 90": _v4(TCP(sport=1090, dport=90)),
    "udp 80": _v4(UDP(sport=2080, dport=80)),
    "sctp 80": _v4(SCTP(sport=3080, dport=80) / SCTPChunkInit(init_tag=1)),
    "echo": _v4(ICMP(type=8, code=0, id=1)),
    "timestamp": _v4(ICMP(type=13, code=0, id=2)),
    "gre": _v4(Raw(b"\x00\x00\x08\x00")),
    "tcp 80, IPv6": _v6(TCP(sport=4080, dport=80)),
    "echo, IPv6": _v6(ICMPv6EchoRequest(id=3)),
}
PROBES["gre"][IP].proto = 47
V4 = {kind for kind in PROBES if "IPv6" not in kind}

RULES = [
    ("nothing", (), set()),
    ("any IPv4", (IN,), V4),
    ("any IPv6", (IN6,), set(PROBES) - V4),
    ("any tcp", (replace(IN, protocol="tcp"),), {"tcp 22", "tcp 80", "tcp 89", "tcp 90"}),
    ("one port", (replace(IN, protocol="tcp", first_port=80, last_port=80),), {"tcp 80"}),
    ("a range of ports", (replace(IN, protocol="tcp", first_port=80, last_port=89),), {"tcp 80", "tcp 89"}),
    ("udp", (replace(IN, protocol="udp", first_port=80, last_port=80),), {"udp 80"}),
    ("sctp", (replace(IN, protocol="sctp", first_port=80, last_port=80),), {"sctp 80"}),
    ("any icmp", (replace(IN, protocol="icmp"),), {"echo", "timestamp"}),
    ("a type of icmp", (replace(IN, protocol="icmp", first_port=8),), {"echo"}),
    ("a type and code of icmp", (replace(IN, protocol="icmp", first_port=13, last_port=0),), {"timestamp"}),
    ("another code of icmp", (replace(IN, protocol="icmp", first_port=13, last_port=1),), set()),
    ("icmp of IPv6", (replace(IN6, protocol="icmp", first_port=128, last_port=0),), {"echo, IPv6"}),
    ("a protocol's number", (replace(IN, protocol="47"),), {"gre"}),
    ("tcp by its number", (replace(IN, protocol="6", first_port=22, last_port=22),), {"tcp 22"}),
    ("tcp of IPv6", (replace(IN6, protocol="tcp", first_port=80, last_port=80),), {"tcp 80, IPv6"}),
    ("a network that the sender is in", (replace(IN, remote="10.9.0.0/28"),), V4),
    ("a network that it is not in", (replace(IN, remote="10.9.0.128/25"),), set()),
    ("an IPv6 network", (replace(IN6, remote="fd00:9::/64"),), set(PROBES) - V4),
    ("a group that the sender is in", (replace(IN, remote_group=OPS), replace(IN6, remote_group=OPS)), set(PROBES)),
    ("a group that it is not in", (replace(IN, remote_group=WEB),), set()),
    ("two rules", (replace(IN, protocol="tcp", first_port=22), replace(IN, protocol="udp")), {"tcp 22", "udp 80"}),
]


@pytest.fixture
def guests(fabric: LinuxFabric) -> Iterator[tuple[Wired, Wired]]:
    """The client and the server, each in a group of its own, of which the host was told nothing yet."""
    with _plugged(fabric, CLIENT, SERVER) as (client, server):
        yield client, server


@pytest.mark.parametrize(("rules", "passing"), [case[1:] for case in RULES], ids=[case[0] for case in RULES])
def test_a_group_lets_in_what_its_rules_name_and_nothing_else(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], rules: tuple[SecurityRule, ...], passing: set[str]
) -> None:
    fabric.ensure_surroundings(_around(web=rules))
    assert _passing(*guests) == passing


@pytest.mark.parametrize(
    ("rules", "passing"),
    [
        ((), set()),
        ((OUT,), V4),
        ((OUT6,), set(PROBES) - V4),
        ((replace(OUT, protocol="tcp", first_port=22, last_port=22),), {"tcp 22"}),
        ((replace(OUT, remote="10.9.0.11/32", protocol="udp"),), {"udp 80"}),
        ((replace(OUT, remote_group=WEB, protocol="icmp"),), {"echo", "timestamp"}),
    ],
)
def test_a_group_lets_out_what_its_rules_name_and_nothing_else(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], rules: tuple[SecurityRule, ...], passing: set[str]
) -> None:
    fabric.ensure_surroundings(_around(web=(IN, IN6), ops=rules))
    assert _passing(*guests) == passing


def test_a_port_of_whose_groups_the_host_was_not_told_sends_and_hears_answers_only(guests: tuple[Wired, Wired]) -> None:
    client, server = guests
    assert _passing(client, server) == set()
    subprocess.run(["ip", "addr", "add", f"{METADATA_ADDRESS}/32", "dev", CLIENT.bridge], check=True)
    with _listening(None, 80) as metadata, _connected(client, METADATA_ADDRESS, 80):
        assert metadata.accept()[0]


def test_a_port_without_groups_sends_and_hears_answers_only(fabric: LinuxFabric) -> None:
    alone, server = replace(CLIENT, security_groups=()), replace(SERVER, security_groups=(WEB,))
    with _plugged(fabric, alone, server) as (client, web):
        around = _around(web=(IN,))
        members = (replace(around.members[0], security_groups=()), around.members[1])
        fabric.ensure_surroundings(replace(around, members=members))
        assert _passing(client, web) == V4
        with _talking(client, web) as talk:
            talk()
        with _listening(client.namespace, 80):
            assert not _is_reached(web, alone.address)


def test_a_group_of_300_rules_lets_in_what_its_last_one_names(fabric: LinuxFabric, guests: tuple[Wired, Wired]) -> None:
    rules = [replace(IN, protocol="udp", first_port=number, last_port=number) for number in range(1000, 1299)]
    fabric.ensure_surroundings(_around(web=(*rules, replace(IN, protocol="tcp", first_port=80, last_port=80))))
    assert _passing(*guests) == {"tcp 80"}


def test_nothing_passes_unseen_while_the_bridge_does_not_ask_the_filters(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    around = _around(web=(IN, IN6))
    fabric.ensure_surroundings(around)
    for switch in ("iptables", "ip6tables"):
        Path(f"/proc/sys/net/bridge/bridge-nf-call-{switch}").write_text("0")
    assert _passing(*guests) == set()
    fabric.ensure_surroundings(around)
    assert _passing(*guests) == set(PROBES)


def test_the_host_itself_reaches_its_guests_whatever_their_groups(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    fabric.ensure_surroundings(_around(web=()))
    with _listening(guests[1].namespace, 80) as listener:
        socket.create_connection((SERVER.address, 80), timeout=ANSWER_LIMIT_S).close()
        assert listener.accept()[0]


def test_a_connection_stands_while_members_come_and_go_and_rules_of_its_own_groups_change(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    client, server = guests
    fabric.ensure_surroundings(_around(web=(replace(IN, remote_group=OPS),)))
    with _talking(client, server) as talk:
        for others in (("10.9.0.50",), ("10.9.0.50", "10.9.0.51"), (), ("10.9.0.51",)):
            fabric.ensure_surroundings(_around(web=(replace(IN, remote_group=OPS),), others=others))
            talk()
        for rules in ((IN,), (replace(IN, protocol="tcp"),), (replace(IN, protocol="tcp", first_port=80),)):
            fabric.ensure_surroundings(_around(web=rules))
            talk()


def test_a_connection_stands_while_other_ports_come_change_and_go(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    client, server = guests
    fabric.ensure_surroundings(_around(web=(IN,)))
    with _talking(client, server) as talk:
        for groups in ((WEB,), (OPS, WEB), ()):
            fabric.ensure_plugged(replace(vif(2), security_groups=groups))
            talk()
        fabric.ensure_unplugged(vif(2))
        talk()


def test_a_member_that_comes_is_let_in_and_one_that_goes_is_not(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    client, server = guests
    rules = (replace(IN, remote_group=OPS, protocol="tcp"),)  # no connection comes of it: nobody listens
    for addresses in ((), CLIENT_ADDRESSES, ("10.9.0.50",), CLIENT_ADDRESSES):
        fabric.ensure_surroundings(replace(_around(web=rules), group_addresses={OPS: addresses}))
        assert ("tcp 80" in _passing(client, server)) == (addresses == CLIENT_ADDRESSES)


def test_a_member_that_comes_changes_elements_alone(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (replace(IN, remote_group=OPS),)
    fabric.ensure_surroundings(_around(web=rules))
    scripts: list[str] = []
    monkeypatch.setattr("net.filters.transactions.run_script", scripts.append)
    fabric.ensure_surroundings(_around(web=rules, others=("10.9.0.50",)))
    changes = [line for line in scripts[0].splitlines() if not line.startswith("add table")]
    assert changes == [f"add element bridge taskvisor members4_{OPS} {{ 10.9.0.50 }}"]
    monkeypatch.undo()


def test_groups_told_again_and_in_another_process_change_nothing(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = _around(web=(replace(IN, remote_group=OPS), IN6), ops=(OUT, replace(OUT, remote_group=OPS)))
    fabric.ensure_surroundings(around)
    before = read_world(state_dir)
    monkeypatch.setattr("net.filters.transactions.run_script", pytest.fail)
    fabric.ensure_surroundings(around)
    other = LinuxFabric(state_dir)
    other.ensure_surroundings(around)
    other.ensure_plugged(CLIENT)
    monkeypatch.undo()
    assert read_world(state_dir) == before


@pytest.mark.parametrize(
    "damage", ["flush ruleset", "flush chain bridge taskvisor from_{tap}", "delete table inet taskvisor_ports"]
)
def test_filters_removed_by_hand_are_back_with_the_next_surroundings(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], state_dir: Path, damage: str
) -> None:
    around = _around(web=(replace(IN, remote_group=OPS),))
    fabric.ensure_surroundings(around)
    before = read_world(state_dir).ports
    with _talking(*guests) as talk:
        subprocess.run(["nft", damage.format(tap=SERVER.tap)], check=True)
        assert read_world(state_dir).ports != before
        fabric.ensure_surroundings(around)
        assert read_world(state_dir).ports == before
        talk()


def test_what_a_process_takes_the_tables_to_hold_is_what_they_hold(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    around = _around(web=(replace(IN, remote_group=OPS), IN6), ops=(OUT, replace(OUT6, remote_group=OPS)))
    told = (around, replace(around, group_addresses={OPS: ("10.9.0.50",)}), _around(web=()))
    for each in told:
        fabric.ensure_surroundings(each)
        assert fabric._filters.read() == read_port_listing()
    fabric.ensure_plugged(vif(2))
    fabric.ensure_unplugged(vif(2))
    assert fabric._filters.read() == read_port_listing()


def test_a_groups_chains_go_with_its_last_port_here(
    fabric: LinuxFabric, guests: tuple[Wired, Wired], state_dir: Path
) -> None:
    fabric.ensure_surroundings(_around(web=(replace(IN, remote_group=OPS),), ops=(OUT,)))
    fabric.ensure_unplugged(SERVER)
    named = {name for _, name in (*read_world(state_dir).ports.chains, *read_world(state_dir).ports.entries)}
    assert not [name for name in named if WEB in name or name == f"members4_{OPS}"]
    assert f"begin_{OPS}" in named
    fabric.ensure_plugged(SERVER)


def test_a_port_that_joins_another_group_is_let_in_by_that_one_without_a_plug(
    fabric: LinuxFabric, guests: tuple[Wired, Wired]
) -> None:
    client, server = guests
    around = _around(web=(), ops=(OUT, OUT6, IN))
    fabric.ensure_surroundings(around)
    assert _passing(client, server) == set()
    both = tuple(replace(member, security_groups=(OPS, WEB)) for member in around.members)
    fabric.ensure_surroundings(replace(around, members=both))
    assert _passing(client, server) == V4


def test_surroundings_of_a_network_without_ports_here_are_of_no_effect(fabric: LinuxFabric, state_dir: Path) -> None:
    fabric.ensure_surroundings(_around(web=(IN,)))
    assert read_world(state_dir) == EMPTY


CLIENT_ADDRESSES = (CLIENT.address, "fd00:9::10")


def _around(
    *, web: tuple[SecurityRule, ...], ops: tuple[SecurityRule, ...] = (OUT, OUT6), others: tuple[str, ...] = ()
) -> Surroundings:
    """The network's surroundings: the client in OPS, the server in WEB, and others (elsewhere) in OPS."""
    members = [
        Member(
            port_id=nic.port_id,
            host=HostName("here"),
            mac=nic.mac,
            addresses=(nic.address, str(nic.address6)),
            security_groups=nic.security_groups,
        )
        for nic in (CLIENT, SERVER)
    ]
    return Surroundings(
        network=network(),
        members=tuple(members),
        groups=(SecurityGroup(id=WEB, name="web", rules=web), SecurityGroup(id=OPS, name="ops", rules=ops)),
        group_addresses={OPS: (*CLIENT_ADDRESSES, *others), WEB: (SERVER.address, "fd00:9::11")},
    )


@contextmanager
def _plugged(fabric: LinuxFabric, *nics: VifPlan) -> Iterator[tuple[Wired, ...]]:
    with ExitStack() as stack:
        for nic in nics:
            fabric.ensure_plugged(nic)
            stack.callback(fabric.ensure_unplugged, nic)
        yield stack.enter_context(wired(*nics))


def _passing(client: Wired, server: Wired) -> set[str]:
    """The kinds of first packets that get from the client to the server."""
    markers = {f"<{number:03}>".encode() * 3: kind for number, kind in enumerate(PROBES)}
    with server.listen() as heard:
        for marker, kind in markers.items():
            client.send(_marked(PROBES[kind], marker))
        client.send(bytes(OPEN))
        counts = arrivals(heard, list(markers), last=b"the-way-is-open")
    return {kind for marker, kind in markers.items() if counts[marker]}


def _marked(probe: Packet, marker: bytes) -> bytes:
    """The packet with the marker in it, where its protocol has a place for it: what follows an SCTP chunk is another chunk."""
    if SCTP not in probe:
        return bytes(probe / Raw(marker))
    marked = probe.copy()
    marked[SCTPChunkInit].params = [SCTPChunkParamHeartbeatInfo(data=marker)]
    return bytes(marked)


@contextmanager
def _talking(client: Wired, server: Wired) -> Iterator[Callable[[], None]]:
    """A TCP connection from client to server; call what is yielded to say something and hear the answer."""
    with _listening(server.namespace, 80) as listener, _connected(client, server.vif.address, 80) as here:
        there = listener.accept()[0]
        there.settimeout(ANSWER_LIMIT_S)

        def talk() -> None:
            here.sendall(b"hello")
            assert there.recv(100) == b"hello"
            there.sendall(b"welcome")
            assert here.recv(100) == b"welcome"

        with there:
            yield talk


def _listening(namespace: str | None, port: int) -> socket.socket:
    """None: on the host itself, whose namespace this thread is in."""

    def listen() -> socket.socket:
        listener = socket.create_server(("", port))
        listener.settimeout(ANSWER_LIMIT_S)
        return listener

    return listen() if namespace is None else run_in(namespace, listen)


def _connected(guest: Wired, address: str, port: int) -> socket.socket:
    return run_in(guest.namespace, lambda: socket.create_connection((address, port), timeout=ANSWER_LIMIT_S))


def _is_reached(guest: Wired, address: str) -> bool:
    """Whether the guest gets a TCP connection to port 80 there: tried for as long as a connection takes many times over."""
    try:
        run_in(guest.namespace, lambda: socket.create_connection((address, 80), timeout=SILENCE_S)).close()
    except TimeoutError:
        return False
    return True
