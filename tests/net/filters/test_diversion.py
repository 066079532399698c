"""The detour of what a guest sends comes after the filters of its TAP, and before those of its bridge."""

import os
import time

import pytest

from net.filters.diversion import ensure_detour, ensure_no_detour, table_name_for
from tests.fixtures.machine import run_or_fail
from tests.net.tap_guest import open_tap

pytestmark = pytest.mark.real

LIMIT_S = 60.0
GOOD, EVIL = 0x88B5, 0x88B6
FILTERS = """
table netdev early {
  chain guard { type filter hook ingress device "tap0" priority 0; policy accept; ether type 0x88b6 counter drop; }
}
table bridge later {
  chain seen { type filter hook prerouting priority 0; policy accept; iifname "tap0" jump kinds; }
  chain kinds { ether type 0x88b5 counter; ether type 0x88b6 counter; }
}
"""


@pytest.fixture
def tap(host_namespace: str) -> int:
    """A TAP on a bridge, open, with a filter of its own; an ifb, up; and counters on the bridge."""
    fd = open_tap("tap0")
    for words in (
        "ip link add br0 type bridge",
        "ip link add ifb0 type ifb",
        "ip link set tap0 master br0",
        "ip link set tap0 up",
        "ip link set br0 up",
        "ip link set ifb0 up",
    ):
        run_or_fail(words.split(), limit_s=LIMIT_S)
    run_or_fail(["nft", FILTERS], limit_s=LIMIT_S)
    return fd


def test_a_filter_of_the_tap_is_not_gone_round(tap: int) -> None:
    ensure_detour("tap0", "ifb0", "taskvisor:guest:port")
    send(tap, GOOD, EVIL)
    assert (counted("netdev", "early", EVIL), counted("bridge", "later", GOOD)) == (10, 10)
    assert counted("bridge", "later", EVIL) == 0
    ensure_no_detour("tap0")
    os.close(tap)


def test_tcs_own_way_goes_round_it_which_is_why_it_is_not_taken(tap: int) -> None:
    for words in (
        "tc qdisc add dev tap0 ingress",
        "tc filter add dev tap0 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb0",
    ):
        run_or_fail(words.split(), limit_s=LIMIT_S)
    send(tap, EVIL)
    assert (counted("netdev", "early", EVIL), counted("bridge", "later", EVIL)) == (0, 10)
    os.close(tap)


def test_a_detour_bears_its_owner_is_made_once_and_removed_twice(tap: int) -> None:
    ensure_detour("tap0", "ifb0", "taskvisor:guest:port")
    before = listed()
    assert 'comment "taskvisor:guest:port"' in before
    ensure_detour("tap0", "ifb0", "taskvisor:guest:port")
    assert listed() == before
    for _ in range(2):
        ensure_no_detour("tap0")
        assert table_name_for("tap0") not in run_or_fail(["nft", "list", "tables"], limit_s=LIMIT_S)
    os.close(tap)


def test_a_detour_to_elsewhere_is_replaced(tap: int) -> None:
    run_or_fail(["ip", "link", "add", "ifb1", "type", "ifb"], limit_s=LIMIT_S)
    for via in ("ifb1", "ifb0"):
        ensure_detour("tap0", via, "taskvisor:guest:port")
        assert listed().count("fwd to") == 1
        assert f'fwd to "{via}"' in listed()
    ensure_no_detour("tap0")
    os.close(tap)


def send(fd: int, *kinds: int) -> None:
    for kind in kinds * 10:
        os.write(fd, b"\xff" * 6 + b"\x02\0\0\0\0\1" + kind.to_bytes(2, "big") + bytes(50))


def counted(family: str, table: str, kind: int) -> int:
    """Packets that the counter of that kind has; looked at until it no longer rises."""
    deadline, last = time.monotonic() + LIMIT_S, -1
    while time.monotonic() < deadline:
        text = run_or_fail(["nft", "list", "table", family, table], limit_s=LIMIT_S)
        now = int(text.partition(f"ether type {kind:#x} counter packets ")[2].split()[0])
        if now == last:
            return now
        last = now
        time.sleep(0.2)
    return last


def listed() -> str:
    return run_or_fail(["nft", "-a", "list", "table", "netdev", table_name_for("tap0")], limit_s=LIMIT_S)
