"""Connections that stand when what let them through is taken away: by real ones that stop, and others that go on."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pytest
from structlog.testing import capture_logs

from net.fabric import LinuxFabric
from net.filters import connections
from net.links.conntrack import Conntrack, ConntrackMissing, open_conntrack
from taskvisor.model.ids import HostName, SecurityGroupId
from taskvisor.model.network import (
    Direction,
    IpFamily,
    Ipv6Mode,
    Member,
    Network,
    NetworkKind,
    SecurityGroup,
    SecurityRule,
    Surroundings,
)
from taskvisor.model.plan import VifPlan
from tests.net.filters.outer import HOST, OUTSIDE, plugged_guests
from tests.net.hosts import run_in
from tests.net.lan import asked
from tests.net.plans import network, vif
from tests.net.wired import wired

pytestmark = pytest.mark.real

GROUP, PEERS = (SecurityGroupId(f"{digit}1111111-0000-4000-8000-000000000001") for digit in "12")
OUT = SecurityRule(direction=Direction.EGRESS, family=IpFamily.V4)
OUT6 = replace(OUT, family=IpFamily.V6)
IN = SecurityRule(direction=Direction.INGRESS, family=IpFamily.V4, protocol="tcp", first_port=80, last_port=80)
IN6 = replace(IN, family=IpFamily.V6)
ALSO = replace(IN, first_port=81, last_port=81)
OF_PEERS = replace(IN, remote_group=PEERS)
ANSWER_LIMIT_S, SILENCE_S = 20.0, 0.5
ROUTED = replace(network(kind=NetworkKind.ROUTED), nat=False)


@dataclass(frozen=True, kw_only=True)
class Talk:
    """A TCP connection: the client's end, and the server's."""

    client: socket.socket
    server: socket.socket

    def goes_on(self) -> bool:
        """What either says the other hears."""
        return self._hears(self.client, self.server, ANSWER_LIMIT_S) and self._hears(
            self.server, self.client, ANSWER_LIMIT_S
        )

    def has_stopped(self) -> bool:
        """Neither hears the other, whoever speaks first: the server, as one that streams does."""
        return not self._hears(self.server, self.client, SILENCE_S) and not self._hears(
            self.client, self.server, SILENCE_S
        )

    @staticmethod
    def _hears(speaker: socket.socket, listener: socket.socket, limit_s: float) -> bool:
        speaker.sendall(b"word")
        listener.settimeout(limit_s)
        try:
            return bool(listener.recv(1000))
        except TimeoutError:
            return False


@contextmanager
def talking(client: str, address: str, server: str, port: int = 80) -> Iterator[Talk]:
    """An open connection between two namespaces ("" is the host), over which both have spoken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        listener = stack.enter_context(
            run_in(server, lambda: socket.create_server(("", port), family=family, backlog=5))
        )
        listener.settimeout(ANSWER_LIMIT_S)

        def connect() -> socket.socket:
            return socket.create_connection((address, port), timeout=ANSWER_LIMIT_S)

        here = stack.enter_context(run_in(client, connect) if client else connect())
        there = stack.enter_context(listener.accept()[0])
        talk = Talk(client=here, server=there)
        assert talk.goes_on()
        yield talk


def nic_of(number: int, on: Network, group: SecurityGroupId = GROUP) -> VifPlan:
    return replace(vif(number, on), security_groups=(group,))


def around(
    on: Network, nics: tuple[VifPlan, ...], *rules: SecurityRule, peers: tuple[VifPlan, ...] = ()
) -> Surroundings:
    """Of the network: GROUP has the rules, PEERS lets everything out; the addresses of `peers` are those in PEERS."""
    members = tuple(
        Member(
            port_id=nic.port_id,
            host=HostName("here"),
            mac=nic.mac,
            addresses=tuple(filter(None, (nic.address, nic.address6))),
            security_groups=nic.security_groups,
        )
        for nic in nics
    )
    groups = (
        SecurityGroup(id=GROUP, name="web", rules=rules),
        SecurityGroup(id=PEERS, name="peers", rules=(OUT, OUT6)),
    )
    addresses = {PEERS: tuple(nic.address for nic in peers)}
    return Surroundings(network=on, members=members, groups=groups, group_addresses=addresses)


@pytest.mark.parametrize("on", [network(), ROUTED], ids=["nat", "routed"])
def test_a_connection_stops_with_the_rule_that_let_it_in_and_one_by_another_rule_goes_on(
    fabric: LinuxFabric, on: Network
) -> None:
    nics = nic_of(0, on), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT, IN, ALSO))
        with (
            talking(one.namespace, two.vif.address, two.namespace) as ends,
            talking(one.namespace, two.vif.address, two.namespace, 81) as stays,
        ):
            fabric.ensure_surroundings(around(on, nics, OUT, ALSO))
            assert ends.has_stopped()
            assert stays.goes_on()
            for _ in range(2):
                fabric.ensure_surroundings(around(on, nics, OUT, ALSO))
            assert ends.has_stopped()
            fabric.ensure_surroundings(around(on, nics, OUT, IN))
            assert ends.goes_on(), "it is let in again, and is the same connection"
            assert stays.has_stopped()


def test_it_is_the_mark_that_stops_a_server_which_goes_on_speaking(fabric: LinuxFabric) -> None:
    """What others do, to have the kernel forget the connection, would let this one go on: its server picks it up."""
    on = network()
    nics = replace(nic_of(0, on), anti_spoofing=False), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT, IN))
        with talking(one.namespace, two.vif.address, two.namespace) as talk:
            fabric.ensure_surroundings(around(on, nics, OUT))
            assert talk.has_stopped()
            subprocess.run(["conntrack", "-D", "-p", "tcp"], check=True, capture_output=True)
            assert talk.goes_on()


@pytest.mark.parametrize("on", [network(), ROUTED], ids=["nat", "routed"])
def test_a_connection_out_of_the_network_stops_with_the_rule_that_let_it_out(
    fabric: LinuxFabric, outside: str, on: Network
) -> None:
    nics = nic_of(0, on), nic_of(1, on, PEERS)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT))
        asked(outside, "ip", "route", "add", on.cidr, "via", HOST)
        with (
            talking(one.namespace, OUTSIDE, outside) as ends,
            talking(two.namespace, OUTSIDE, outside, 81) as stays,
        ):
            fabric.ensure_surroundings(around(on, nics))
            assert ends.has_stopped()
            assert stays.goes_on()
            fabric.ensure_surroundings(around(on, nics, OUT))
            assert ends.goes_on()


def test_a_connection_that_was_routed_to_a_port_stops_with_the_rule_that_let_it_in(
    fabric: LinuxFabric, outside: str
) -> None:
    nics = nic_of(0, ROUTED), nic_of(1, ROUTED)
    with plugged_guests(fabric, *nics) as (one, _):
        fabric.ensure_surroundings(around(ROUTED, nics, OUT, IN))
        asked(outside, "ip", "route", "add", ROUTED.cidr, "via", HOST)
        with talking(outside, nics[0].address, one.namespace) as ends:
            fabric.ensure_surroundings(around(ROUTED, nics, OUT))
            assert ends.has_stopped()


def test_a_connection_stops_with_the_rule_that_let_it_out(fabric: LinuxFabric) -> None:
    on, nics = network(), (nic_of(0, network()), nic_of(1, network(), PEERS))
    with plugged_guests(fabric, *nics) as (one, two):
        into = replace(IN, first_port=1, last_port=65535)
        told = around(on, nics, OUT)
        told = replace(told, groups=(told.groups[0], replace(told.groups[1], rules=(into,))))
        fabric.ensure_surroundings(told)
        with talking(one.namespace, two.vif.address, two.namespace) as talk:
            fabric.ensure_surroundings(replace(told, groups=(replace(told.groups[0], rules=()), told.groups[1])))
            assert talk.has_stopped()
            fabric.ensure_surroundings(told)
            assert talk.goes_on()


def test_a_peer_that_leaves_the_group_which_was_let_in_is_let_in_no_more(fabric: LinuxFabric) -> None:
    on = network()
    nics = nic_of(0, on, PEERS), nic_of(1, on, PEERS), nic_of(2, on)
    with plugged_guests(fabric, *nics) as (leaves, stays, server):
        fabric.ensure_surroundings(around(on, nics, OUT, OF_PEERS, peers=nics[:2]))
        with talking(leaves.namespace, server.vif.address, server.namespace) as ends:
            fabric.ensure_surroundings(around(on, nics, OUT, OF_PEERS, peers=nics[1:2]))
            assert ends.has_stopped()
        with talking(stays.namespace, server.vif.address, server.namespace) as talk:
            fabric.ensure_surroundings(around(on, nics, OUT, OF_PEERS, peers=nics[1:2]))
            assert talk.goes_on()


def test_a_port_that_leaves_its_group_is_reached_no_more_by_it(fabric: LinuxFabric) -> None:
    on, nics = network(), (nic_of(0, network()), nic_of(1, network()))
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT, IN))
        with talking(one.namespace, two.vif.address, two.namespace) as talk:
            fabric.ensure_surroundings(around(on, (nics[0], replace(nics[1], security_groups=())), OUT, IN))
            assert talk.has_stopped()


def test_by_ipv6_too(fabric: LinuxFabric) -> None:
    on = network(ipv6=Ipv6Mode.SLAAC)
    nics = nic_of(0, on), nic_of(1, on)
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT, OUT6, IN, IN6))
        with talking(one.namespace, nics[1].address6 or "", two.namespace) as ends:
            fabric.ensure_surroundings(around(on, nics, OUT, OUT6, IN))
            assert ends.has_stopped()


def test_what_the_host_itself_began_and_what_other_networks_have_goes_on(fabric: LinuxFabric) -> None:
    on, other = network(), network(8)
    here, there = (nic_of(0, on), nic_of(1, on)), (nic_of(0, other), nic_of(1, other))
    with plugged_guests(fabric, *here, *there) as (one, two, three, four):
        fabric.ensure_surroundings(around(on, here, OUT, IN))
        fabric.ensure_surroundings(around(other, there, OUT, IN))
        with (
            talking("", one.vif.address, one.namespace) as by_host,
            talking(one.namespace, two.vif.address, two.namespace) as ends,
            talking(three.namespace, four.vif.address, four.namespace) as elsewhere,
        ):
            fabric.ensure_surroundings(around(on, here, OUT))
            assert ends.has_stopped()
            assert by_host.goes_on()
            assert elsewhere.goes_on(), "its rules are the group's as this host was told last, and it was not told yet"


def test_a_process_that_died_before_it_came_to_the_connections_has_them_looked_at_by_the_next(
    fabric: LinuxFabric, state_dir: Path
) -> None:
    on, nics = network(), (nic_of(0, network()), nic_of(1, network()))
    with plugged_guests(fabric, *nics) as (one, two):
        fabric.ensure_surroundings(around(on, nics, OUT, IN))
        with talking(one.namespace, two.vif.address, two.namespace) as talk:
            died = mock.patch.object(connections, "open_conntrack", side_effect=KeyboardInterrupt)
            with died, pytest.raises(KeyboardInterrupt):
                fabric.ensure_surroundings(around(on, nics, OUT))
            assert talk.goes_on()
            LinuxFabric(state_dir).ensure_surroundings(around(on, nics, OUT))
            assert talk.has_stopped()


def test_a_host_that_can_not_look_at_connections_says_so_once_and_goes_on(fabric: LinuxFabric) -> None:
    on, nics = network(), (nic_of(0, network()),)
    missing = mock.patch.object(Conntrack, "_listed", side_effect=ConntrackMissing("this kernel has no ctnetlink"))
    with missing, capture_logs() as logs, plugged_guests(fabric, *nics):
        for rules in ((OUT, IN), (OUT,)):
            fabric.ensure_surroundings(around(on, nics, *rules))
    assert [entry["event"] for entry in logs].count("connections_not_ended") == 1


def test_the_connections_of_a_port_go_with_it_and_those_of_others_stay(fabric: LinuxFabric) -> None:
    on = network()
    nics = nic_of(0, on), nic_of(1, on), nic_of(2, on)
    with plugged_guests(fabric, *nics[:2]) as (one, two):
        fabric.ensure_plugged(nics[2])
        with wired(nics[2]) as (three,):
            fabric.ensure_surroundings(around(on, nics, OUT, IN))
            with (
                talking(one.namespace, three.vif.address, three.namespace),
                talking(one.namespace, two.vif.address, two.namespace) as stays,
            ):
                fabric.ensure_unplugged(nics[2])
                with open_conntrack() as conntrack:
                    assert conntrack.list_answered_by(nics[2].address) == ()
                    assert len(conntrack.list_answered_by(nics[1].address)) == 1
                assert stays.goes_on()
