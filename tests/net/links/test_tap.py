"""TAPs on a real kernel."""

import json
import os

import pytest
from pyroute2 import IPRoute

from net.links.netlink import open_netlink
from net.links.tap import ensure_tap, ensure_tap_absent
from net.links.tun import NameTaken, open_new_tap
from taskvisor.model.errors import Contradiction, DoesNotFit
from tests.fixtures.machine import run_or_fail
from tests.net.guest import open_guest
from tests.net.tap_guest import open_tap

pytestmark = pytest.mark.real
OWNER = "taskvisor:guest:port"


def test_a_tap_that_is_not_made_persistent_goes_with_its_maker(host_namespace: str) -> None:
    with open_netlink() as netlink:
        with open_new_tap("tap0"):
            assert netlink.read_link("tap0") is not None
        assert netlink.read_link("tap0") is None


def test_a_name_that_exists_is_never_opened_whatever_bears_it(host_namespace: str) -> None:
    with IPRoute() as ipr:
        ipr.link("add", ifname="tap0", kind="bridge")
    for name in ("tap0", "lo"):
        with pytest.raises(NameTaken), open_new_tap(name):
            pass


def test_a_tap_bears_its_owner_before_it_can_outlive_its_maker(
    host_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(self: object) -> None:
        with open_netlink() as other:
            seen.append(other.read_link("tap0"))
        raise InterruptedError

    monkeypatch.setattr("net.links.tun.NewTap.ensure_persistent", look)
    with open_netlink() as netlink:
        with pytest.raises(InterruptedError):
            ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450)
        assert [link and link.alias for link in seen] == [OWNER]
        assert netlink.read_link("tap0") is None


def test_a_tap_of_ours_is_found_again_and_a_guest_may_have_it_open(host_namespace: str) -> None:
    with open_netlink() as netlink:
        made = ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450)
        with open_guest("tap0", "52:54:00:00:00:01"):
            assert ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450).index == made.index
            ensure_tap_absent(netlink, name="tap0", owner=OWNER)
        ensure_tap_absent(netlink, name="tap0", owner=OWNER)


@pytest.mark.parametrize("kind", ["bridge", "tun"])
def test_a_link_of_another_kind_is_left_alone_even_with_our_alias(host_namespace: str, kind: str) -> None:
    with open_netlink() as netlink, IPRoute() as ipr:
        if kind == "tun":
            ipr.link("add", ifname="tap0", kind="tuntap", mode="tun")
        else:
            ipr.link("add", ifname="tap0", kind=kind)
        before = netlink.read_link("tap0")
        assert before is not None
        netlink.ensure_alias(before, OWNER)
        with pytest.raises(Contradiction, match="is not a TAP"):
            ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450)
        with pytest.raises(Contradiction, match="is not a TAP"):
            ensure_tap_absent(netlink, name="tap0", owner=OWNER)
        netlink.ensure_link_absent(before)


def test_another_owners_tap_is_left_alone(host_namespace: str) -> None:
    with open_netlink() as netlink:
        ensure_tap(netlink, name="tap0", owner="taskvisor:other:port", mtu=1450)
        for act in (
            lambda: ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1400),
            lambda: ensure_tap_absent(netlink, name="tap0", owner=OWNER),
        ):
            with pytest.raises(Contradiction, match="belongs to taskvisor:other:port"):
                act()
        left = netlink.read_link("tap0")
        assert left is not None
        assert left.mtu == 1450
        ensure_tap_absent(netlink, name="tap0", owner="taskvisor:other:port")


def test_a_tap_for_several_queues_is_opened_as_often_as_its_guest_likes(host_namespace: str) -> None:
    with open_netlink() as netlink:
        ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=4)
        (seen,) = json.loads(run_or_fail(["ip", "-d", "-j", "link", "show", "tap0"], limit_s=30))
        assert (seen["linkinfo"]["info_data"]["multi_queue"], seen["ifalias"]) == (True, OWNER)
        for fd in [open_tap("tap0", queues=4) for _ in range(4)]:
            os.close(fd)
        with pytest.raises(OSError, match="Invalid argument"):
            open_tap("tap0")
        ensure_tap_absent(netlink, name="tap0", owner=OWNER)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_tap_of_the_other_queue_mode_is_made_anew_only_while_nobody_has_it_open(
    host_namespace: str, before: int, after: int
) -> None:
    with open_netlink() as netlink:
        made = ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=before)
        fd = open_tap("tap0", queues=before)
        with pytest.raises(Contradiction, match=f"is open, and was made for .*, not for the {after} that are wanted"):
            ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=after)
        left = netlink.read_link("tap0")
        assert left is not None
        assert left.index == made.index
        os.close(fd)
        ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=after)
        os.close(open_tap("tap0", queues=after))
        ensure_tap_absent(netlink, name="tap0", owner=OWNER)


def test_more_queues_of_the_same_mode_are_no_reason_to_touch_a_tap(host_namespace: str) -> None:
    with open_netlink() as netlink:
        made = ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=2)
        assert ensure_tap(netlink, name="tap0", owner=OWNER, mtu=1450, queues=4).index == made.index
        ensure_tap_absent(netlink, name="tap0", owner=OWNER)


def test_a_host_without_the_device_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("net.links.tun.DEVICE", os.devnull + "-not-there")
    with pytest.raises(DoesNotFit, match="modprobe tun"), open_new_tap("tap0"):
        pass
