"""Connections that the kernel remembers: read, marked and forgotten, seen by conntrack(8) too."""

import errno
import functools
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from net.links.conntrack import Connection, Conntrack, ConntrackMissing, Flow, open_conntrack
from taskvisor.model.errors import CannotAsk, DoesNotFit, Retryable, TaskvisorError
from tests.fixtures.machine import require_tool
from tests.fixtures.namespaces import open_namespace
from tests.net.hosts import run_in, veth

GUEST, HOST, GUEST6, HOST6 = "10.77.0.2", "10.77.0.1", "fd77::2", "fd77::1"
RULES = """
table inet trial {
  chain zone {
    type filter hook prerouting priority raw;
    iifname "v" tcp dport 81 ct original zone set 7 accept
    iifname "v" tcp dport 82 ct zone set 8 accept
  }
  chain zone_output { type filter hook output priority raw; tcp sport 82 ct zone set 8; }
  chain translation {
    type nat hook prerouting priority dstnat;
    tcp dport 83 dnat ip to 10.77.0.1:80
  }
}
"""
LIMIT_S = 20.0


@pytest.fixture
def guest(host_namespace: str, tmp_state_dir: Path) -> Iterator[str]:
    """The namespace of a guest that is joined to this host, which tracks its connections."""
    name = f"{tmp_state_dir.name[-8:]}g"
    with open_namespace(name), veth("v", name) as index:
        with IPRoute() as host:
            host.addr("add", index=index, address=HOST, prefixlen=24)
            host.addr("add", index=index, address=HOST6, prefixlen=64, flags=0x02)
        with IPRoute(netns=name) as inner:
            peer = inner.link_lookup(ifname="eth0")[0]
            inner.link("set", index=peer, state="up")
            inner.addr("add", index=peer, address=GUEST, prefixlen=24)
            inner.addr("add", index=peer, address=GUEST6, prefixlen=64, flags=0x02)
        subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
        yield name


@contextmanager
def connected(guest: str, *wanted: tuple[str, int, int]) -> Iterator[None]:
    """Open connections of the guest to this host: address, port, and the port that is really asked."""
    with ExitStack() as stack:
        for address, port, listening in wanted:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = stack.enter_context(socket.create_server((address, listening), family=family))
            connect = functools.partial(socket.create_connection, (address, port), timeout=LIMIT_S)
            stack.enter_context(run_in(guest, connect))
            stack.enter_context(server.accept()[0])
        yield


def seen() -> str:
    """What conntrack(8) says."""
    require_tool("conntrack")
    argv = ["conntrack", "-L", "-p", "tcp"]
    both = [subprocess.run([*argv, "-f", f"ipv{n}"], capture_output=True, text=True, check=True) for n in (4, 6)]
    return "".join(said.stdout for said in both)


@pytest.mark.real
def test_they_are_found_by_each_of_their_addresses_in_both_families(guest: str) -> None:
    with connected(guest, (HOST, 83, 80), (HOST6, 80, 80)), open_conntrack() as conntrack:
        for begun_by, answered_by in ((GUEST, HOST), (GUEST6, HOST6)):
            (one,) = conntrack.list_begun_by(begun_by)
            assert one.original.source == one.reply.destination == begun_by
            assert one.original.destination == one.reply.source == answered_by
            assert (one.original.protocol, one.reply.source_port) == (6, 80)
            assert conntrack.list_answered_by(answered_by) == conntrack.list_begun_to(answered_by) == (one,)
            assert conntrack.list_answered_to(begun_by) == (one,)
            assert conntrack.list_begun_by(answered_by) == conntrack.list_answered_by(begun_by) == ()
        assert conntrack.list_begun_by(GUEST)[0].original.destination_port == 83
        assert conntrack.list_begun_by("10.77.0.3") == conntrack.list_begun_by("fd77::3") == ()


@pytest.mark.real
@pytest.mark.parametrize(
    ("address", "port", "zones"), [(HOST, 80, (0, 0)), (HOST, 81, (7, 0)), (HOST, 82, (8, 8)), (HOST6, 81, (7, 0))]
)
def test_one_is_marked_and_forgotten_in_whatever_zone_and_no_other_is(
    guest: str, address: str, port: int, zones: tuple[int, int]
) -> None:
    with connected(guest, (address, port, port), (address, 90, 90)), open_conntrack() as conntrack:
        (one,) = (found for found in conntrack.list_begun_to(address) if found.original.destination_port == port)
        assert (one.original.zone, one.reply.zone) == zones
        conntrack.ensure_marked(one, 0x400, among=0xC00)
        conntrack.ensure_marked(replace(one, mark=0x400), 0x800, among=0x800)
        assert [f"dport={port}" in line for line in seen().splitlines() if f"mark={0xC00}" in line] == [True]
        conntrack.ensure_marked(replace(one, mark=0xC00), 0, among=0x400)
        assert [f"dport={port}" in line for line in seen().splitlines() if f"mark={0x800}" in line] == [True]
        conntrack.ensure_absent(replace(one, id=one.id ^ 1))
        assert f"dport={port}" in seen(), "it is not the one that was meant"
        for _ in range(2):
            conntrack.ensure_absent(one)
            assert f"dport={port} " not in seen()
        assert "dport=90 " in seen()


FLOW = Flow(source=GUEST, destination=HOST, protocol=6, source_port=1, destination_port=2)
CONNECTION = Connection(id=1, original=FLOW, reply=FLOW)


class _Failing:
    """A socket whose every request fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def dump(self, **_: Any) -> Any:
        raise self._error

    def entry(self, *_: Any, **__: Any) -> Any:
        raise self._error


def _conntrack(error: Exception) -> Conntrack:
    return Conntrack({socket.AF_INET: _Failing(error)})


@pytest.mark.parametrize(
    ("code", "reaction"),
    [(errno.EPERM, DoesNotFit), (errno.EINVAL, ConntrackMissing), (errno.ENOBUFS, CannotAsk)],
)
def test_a_look_that_failed_is_never_an_empty_answer(code: int, reaction: type[TaskvisorError]) -> None:
    with pytest.raises(reaction, match="connections"):
        _conntrack(NetlinkError(code)).list_begun_by(GUEST)


@pytest.mark.parametrize(("code", "reaction"), [(errno.EPERM, DoesNotFit), (errno.EBUSY, Retryable)])
def test_a_change_that_the_kernel_refuses_asks_for_the_right_reaction(
    code: int, reaction: type[TaskvisorError]
) -> None:
    with pytest.raises(reaction):
        _conntrack(NetlinkError(code)).ensure_absent(CONNECTION)


def test_a_connection_that_has_ended_meanwhile_is_no_error() -> None:
    gone = _conntrack(NetlinkError(errno.ENOENT))
    gone.ensure_absent(CONNECTION)
    gone.ensure_marked(CONNECTION, 1, among=1)
