"""Limits of a port on a real kernel: what tc, ip and nft say of them, and what iperf3 gets through."""

import errno
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from net.fabric import LinuxFabric
from net.filters.diversion import table_name_for
from net.links.netlink import open_netlink
from net.links.shaping import ensure_shaped, ifb_name_for, shape_plan_for
from net.plan import vif_plan_for
from taskvisor.model.errors import Contradiction, DoesNotFit
from taskvisor.model.network import Bandwidth, Qos
from taskvisor.model.plan import VifPlan
from tests.fixtures.machine import run_or_fail
from tests.net.plans import network, port
from tests.net.tap_guest import open_tap_guest

pytestmark = pytest.mark.real

SLOW = Bandwidth(average_kib_s=500)
QUICK = Bandwidth(average_kib_s=2000, peak_kib_s=8000, burst_kib=200)
LIMIT_S = 120.0
BITS = 8 * 1024
GUESTS_PORT = "53"
"""One of the few of their host that guests reach: where its DNS would be."""


def nic(qos: Qos | None = None, number: int = 0) -> VifPlan:
    on = network(dhcp=False)
    return vif_plan_for(replace(port(number, on), qos=qos, anti_spoofing=False), on, hostname=f"web-{number}")


IFB = ifb_name_for(nic().port_id)
BOTH = Qos(inbound=QUICK, outbound=SLOW)


def test_a_limited_port_has_a_bucket_on_its_tap_and_one_on_a_link_of_its_own(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic(BOTH)):
        (inbound,), (outbound,) = queues_on(nic().tap), queues_on(IFB)
        assert (inbound["kind"], inbound["options"]["rate"]) == ("tbf", 2000 * 1024)
        assert (outbound["kind"], outbound["options"]["rate"]) == ("tbf", 500 * 1024)
        assert "peakrate 65536Kbit" in run_or_fail(["tc", "qdisc", "show", "dev", nic().tap], limit_s=LIMIT_S)
        assert link(IFB)["ifalias"] == nic().owner
        assert "UP" in link(IFB)["flags"]
    assert names_of_links() == {"lo"}
    assert tables() == set()


def test_a_port_without_limits_has_nothing_of_it(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic()):
        assert {queue["kind"] for queue in queues_on(nic().tap)}.isdisjoint({"tbf"})
        assert IFB not in names_of_links()
        assert not any(nic().tap in table for table in tables())


def test_a_limit_changes_where_it_stands(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic(BOTH)):
        index, handle = link(IFB)["ifindex"], rule_handle()
        fabric.ensure_plugged(nic(Qos(inbound=SLOW, outbound=QUICK)))
        assert queues_on(nic().tap)[0]["options"]["rate"] == 500 * 1024
        assert queues_on(IFB)[0]["options"]["rate"] == 2000 * 1024
        assert (link(IFB)["ifindex"], rule_handle()) == (index, handle)


def test_plugging_again_sends_no_change(fabric: LinuxFabric, monkeypatch: pytest.MonkeyPatch) -> None:
    with plugged(fabric, nic(BOTH)), open_netlink() as netlink:
        tap = netlink.read_link(nic().tap)
        assert tap is not None
        sent: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(netlink._ipr, "tc", lambda *words, **more: sent.append((words, more)), raising=False)
            patch.setattr("net.filters.diversion._run_script", sent.append)
            ensure_shaped(netlink, tap, shape_plan_for(nic(BOTH)))
        assert sent == []


def test_a_kernel_without_token_buckets_is_said(fabric: LinuxFabric, monkeypatch: pytest.MonkeyPatch) -> None:
    with plugged(fabric, nic()), open_netlink() as netlink:
        tap = netlink.read_link(nic().tap)
        assert tap is not None

        def refuse(*_words: object, **_more: object) -> None:
            raise NetlinkError(errno.ENOENT, "Specified qdisc kind is unknown")

        with monkeypatch.context() as patch:
            patch.setattr(netlink._ipr, "tc", refuse, raising=False)
            with pytest.raises(DoesNotFit, match="has no tbf; load sch_tbf"):
                ensure_shaped(netlink, tap, shape_plan_for(nic(BOTH)))


def test_limits_that_are_lifted_leave_nothing(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic(BOTH)):
        fabric.ensure_plugged(nic())
        assert "tbf" not in {queue["kind"] for queue in queues_on(nic().tap)}
        assert IFB not in names_of_links()
        assert not any(nic().tap in table for table in tables())


def test_an_operators_own_queueing_discipline_stays_when_no_limit_is_asked_for(fabric: LinuxFabric) -> None:
    with plugged(fabric, nic()):
        run_or_fail(["tc", "qdisc", "add", "dev", nic().tap, "root", "handle", "7:", "htb"], limit_s=LIMIT_S)
        fabric.ensure_plugged(nic())
        assert [queue["handle"] for queue in queues_on(nic().tap)] == ["7:"]


@pytest.mark.parametrize(
    "words",
    [
        ["nft", "flush", "ruleset"],
        ["ip", "link", "delete", IFB],
        ["ip", "link", "set", IFB, "down"],
        ["tc", "qdisc", "delete", "dev", IFB, "root"],
        ["tc", "qdisc", "delete", "dev", nic().tap, "root"],
        ["nft", "flush", "chain", "netdev", table_name_for(nic().tap), "detour"],
    ],
    ids=lambda words: " ".join(words[:4]),
)
def test_what_somebody_took_away_is_back_with_the_next_plug(fabric: LinuxFabric, words: list[str]) -> None:
    with plugged(fabric, nic(BOTH)):
        before = seen(nic())
        run_or_fail(words, limit_s=LIMIT_S)
        assert seen(nic()) != before
        fabric.ensure_plugged(nic(BOTH))
        assert seen(nic()) == before


def test_a_strangers_link_of_that_name_is_left_alone(fabric: LinuxFabric) -> None:
    with IPRoute() as host:
        host.link("add", ifname=IFB, kind="ifb")
        with pytest.raises(Contradiction, match=f"link {IFB} .* is not the one that limits"):
            fabric.ensure_plugged(nic(BOTH))
        fabric.ensure_unplugged(nic(BOTH))
        assert link(IFB)["linkinfo"]["info_kind"] == "ifb"
        host.link("del", ifname=IFB)


def test_what_a_guest_receives_and_sends_is_as_fast_as_it_may_be(fabric: LinuxFabric, state_dir: Path) -> None:
    with plugged(fabric, nic()), open_tap_guest(nic(), f"{state_dir.name[-8:]}g") as guest, iperf_server():
        free_in, free_out = throughput(guest, "--reverse"), throughput(guest)
        fabric.ensure_plugged(nic(Qos(inbound=SLOW)))
        slow_in, unlimited_out = throughput(guest, "--reverse"), throughput(guest)
        fabric.ensure_plugged(nic(Qos(outbound=SLOW)))
        unlimited_in, slow_out = throughput(guest, "--reverse"), throughput(guest)
        fabric.ensure_plugged(nic())
        told = f"{free_in=} {free_out=} {slow_in=} {slow_out=} {unlimited_in=} {unlimited_out=}"
        print(told)
        allowed = SLOW.average_kib_s * BITS
        assert 0 < slow_in < 1.5 * allowed, told
        assert 0 < slow_out < 1.5 * allowed, told
        assert min(free_in, free_out, unlimited_in, unlimited_out) > max(slow_in, slow_out), told


def test_a_limit_changed_under_traffic_loses_no_connection(fabric: LinuxFabric, state_dir: Path) -> None:
    with plugged(fabric, nic(BOTH)), open_tap_guest(nic(BOTH), f"{state_dir.name[-8:]}g") as guest:
        ping = ["ip", "netns", "exec", guest, "ping", "-n", "-q", "-i", "0.05", "-c", "60", "-W", "20", nic().gateway]
        with subprocess.Popen(ping, stdout=subprocess.PIPE, text=True) as pinging:
            for number in range(12):
                inbound = replace(SLOW, average_kib_s=500 + number)
                fabric.ensure_plugged(nic(Qos(inbound=inbound, outbound=inbound)))
            said = pinging.communicate(timeout=LIMIT_S)[0]
    assert "60 packets transmitted, 60 received" in said


@contextmanager
def plugged(fabric: LinuxFabric, vif: VifPlan) -> Iterator[None]:
    fabric.ensure_plugged(vif)
    try:
        yield
    finally:
        fabric.ensure_unplugged(vif)


@contextmanager
def iperf_server() -> Iterator[None]:
    """One on the host, for as many clients as come."""
    with subprocess.Popen(
        ["iperf3", "--server", "--forceflush", "--port", GUESTS_PORT], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            while "listening" not in server.stdout.readline():
                assert server.poll() is None
            yield
        finally:
            server.kill()


def throughput(namespace: str, *more: str) -> float:
    """Bits a second that arrive, of TCP, over two seconds."""
    client = ["iperf3", "--client", nic().gateway, "--port", GUESTS_PORT, "--time", "2", "--json", *more]
    argv = ["ip", "netns", "exec", namespace, *client]
    measured = json.loads(run_or_fail(argv, limit_s=LIMIT_S))
    return float(measured["end"]["sum_received"]["bits_per_second"])


def seen(vif: VifPlan) -> tuple[Any, ...]:
    """What the system's own tools say of a port's limits, without numbers that differ each time."""
    names, rates = names_of_links(), []
    for name in (vif.tap, IFB):
        queues = queues_on(name) if name in names else []
        rates.append([(queue["kind"], queue["options"].get("rate")) for queue in queues])
    up = IFB in names and "UP" in link(IFB)["flags"]
    return rates, up, rule_target()


def queues_on(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_or_fail(["tc", "-j", "qdisc", "show", "dev", name], limit_s=LIMIT_S))
    return found


def link(name: str) -> dict[str, Any]:
    (found,) = json.loads(run_or_fail(["ip", "-d", "-j", "link", "show", name], limit_s=LIMIT_S))
    return dict(found)


def names_of_links() -> set[str]:
    return {found["ifname"] for found in json.loads(run_or_fail(["ip", "-j", "link"], limit_s=LIMIT_S))}


def tables() -> set[str]:
    return set(run_or_fail(["nft", "list", "tables"], limit_s=LIMIT_S).splitlines())


def rule_handle() -> str:
    listed = run_or_fail(["nft", "-a", "list", "table", "netdev", table_name_for(nic().tap)], limit_s=LIMIT_S)
    return listed.partition("fwd to")[2]


def rule_target() -> str:
    if f"table netdev {table_name_for(nic().tap)}" not in tables():
        return ""
    return rule_handle().partition(" #")[0]
