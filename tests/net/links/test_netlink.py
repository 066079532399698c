"""Links and addresses of a real kernel, and what its refusals become."""

import errno
from ipaddress import IPv4Interface
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from net.links.link import BRIDGE, TAP, TUN
from net.links.netlink import Netlink, open_netlink
from net.links.refusals import DUMP_TRIES
from taskvisor.model.errors import CannotAsk, DoesNotFit, Refused, Retryable, TaskvisorError


@pytest.mark.real
def test_a_link_is_read_as_it_is(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        assert netlink.read_link("br0") is None
        netlink.ensure_bridge_exists("br0", mac="02:00:00:00:00:01")
        netlink.ensure_bridge_exists("br0", mac="02:00:00:00:00:02")  # it is there: as it was
        bridge = netlink.read_link("br0")
        assert bridge is not None
        assert (bridge.kind, bridge.mac, bridge.alias, bridge.up) == (BRIDGE, "02:00:00:00:00:01", None, False)
        for name, mode in (("tap0", TAP), ("tun0", TUN)):
            ipr.link("add", ifname=name, kind="tuntap", mode=mode)
            link = netlink.read_link(name)
            assert link is not None
            assert link.kind == mode
        lo = netlink.read_link("lo")
        assert lo is not None
        assert lo.kind is None


@pytest.mark.real
def test_changes_are_seen_and_may_be_repeated(host_namespace: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        netlink.ensure_bridge_exists("br0", mac="02:00:00:00:00:01")
        ipr.link("add", ifname="tap0", kind="tuntap", mode=TAP)
        for _ in range(2):
            bridge, tap = netlink.read_link("br0"), netlink.read_link("tap0")
            assert bridge is not None
            assert tap is not None
            netlink.ensure_alias(tap, "whose it is")
            netlink.ensure_mtu(tap, 1400)
            netlink.ensure_port(tap, bridge)
            netlink.ensure_up(tap)
            netlink.ensure_mac(bridge, "02:00:00:00:00:09")
            netlink.ensure_address(bridge, IPv4Interface("10.9.0.1/24"))
        tap, bridge = netlink.read_link("tap0"), netlink.read_link("br0")
        assert tap is not None
        assert bridge is not None
        assert (tap.alias, tap.mtu, tap.master, tap.up) == ("whose it is", 1400, bridge.index, True)
        assert netlink.list_ports(bridge) == (tap,)
        assert netlink.list_addresses_of(bridge) == (IPv4Interface("10.9.0.1/24"),)
        netlink.ensure_link_absent(tap)
        netlink.ensure_link_absent(tap)
        assert netlink.list_ports(bridge) == ()


@pytest.mark.real
def test_a_change_of_a_link_that_is_gone_or_of_a_bad_value_is_an_error_in_words(host_namespace: str) -> None:
    with open_netlink() as netlink:
        netlink.ensure_bridge_exists("br0", mac="02:00:00:00:00:01")
        bridge = netlink.read_link("br0")
        assert bridge is not None
        with pytest.raises(Refused, match="set the MTU of br0 to 10"):
            netlink.ensure_mtu(bridge, 10)
        netlink.ensure_link_absent(bridge)
        with pytest.raises(Retryable, match="set br0 up"):
            netlink.ensure_up(bridge)


class _Failing:
    """A socket whose every request fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.asked = 0

    def link(self, *_: Any, **__: Any) -> Any:
        raise self._error

    def get_links(self, **_: Any) -> Any:
        self.asked += 1
        raise self._error


@pytest.mark.parametrize(
    ("error", "reaction"),
    [
        (NetlinkError(errno.EPERM), DoesNotFit),
        (NetlinkError(errno.ENOBUFS), CannotAsk),
        (OSError(errno.EBADF, "closed"), CannotAsk),
        (NetlinkDumpInterrupted(), CannotAsk),
    ],
)
def test_a_look_that_failed_is_never_an_empty_answer(error: Exception, reaction: type[TaskvisorError]) -> None:
    with pytest.raises(reaction):
        Netlink(_Failing(error)).list_links()
    if not isinstance(error, NetlinkDumpInterrupted):
        with pytest.raises(reaction):
            Netlink(_Failing(error)).read_link("br0")


def test_a_disturbed_dump_is_repeated_a_bounded_number_of_times() -> None:
    failing = _Failing(NetlinkDumpInterrupted())
    with pytest.raises(CannotAsk, match="links changed"):
        Netlink(failing).list_links()
    assert failing.asked == DUMP_TRIES


@pytest.mark.parametrize(("code", "reaction"), [(errno.EPERM, DoesNotFit), (errno.EBUSY, Retryable)])
def test_a_change_that_the_kernel_refuses_asks_for_the_right_reaction(
    code: int, reaction: type[TaskvisorError]
) -> None:
    with pytest.raises(reaction, match="make bridge br0"):
        Netlink(_Failing(NetlinkError(code))).ensure_bridge_exists("br0", mac="02:00:00:00:00:01")
