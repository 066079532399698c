"""`python -m tests.bench.net_throughput`: what passes a port of ours, against one on a bare bridge, in the same run.

A guest is a namespace behind its TAP (tests/net/tap_guest.py): the wire in user space is the slowest part and the same in every
row, so ratios are what counts. Rows of filters are as dear as the filters that a plug makes.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog

from net.fabric import LinuxFabric
from net.links.netlink import open_netlink
from net.links.tap import ensure_tap, ensure_tap_absent
from net.plan import bridge_mac_for, vif_plan_for
from taskvisor.model.network import Bandwidth, Qos
from taskvisor.model.plan import VifPlan
from tests.bench.report import Row, p50, progress, table
from tests.fixtures.machine import run_or_fail
from tests.fixtures.namespaces import entered_namespace, open_namespace
from tests.net.plans import network, port
from tests.net.tap_guest import open_tap_guest

ROUNDS = 3
GUESTS_PORT = "53"  # one of the few of their host that guests reach, where no DNS is served
SECONDS = 3
LIMIT_S = 120.0
WIDE = Bandwidth(average_kib_s=4_000_000)  # a bucket that never runs dry: what having one costs
NARROW = Bandwidth(average_kib_s=1024)
MIB_BITS = 8 << 20
Plug = Callable[[VifPlan], None]


def main() -> int:
    """0 when all was measured."""
    if os.geteuid() != 0:
        print("bench: must be run as root: it makes network namespaces and links", file=sys.stderr)
        return 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with _host() as (state_dir, name):
            print(
                table(f"Throughput of a port, TCP, p50 of {ROUNDS} rounds of {SECONDS} s", list(_rows(state_dir, name)))
            )
    except pytest.fail.Exception as problem:  # fixtures speak pytest
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    return 0


def _rows(state_dir: Path, name: str) -> Iterator[Row]:
    fabric = LinuxFabric(state_dir)
    cases: dict[str, tuple[VifPlan, Plug, Plug]] = {
        "bare: a TAP on a bridge": (_nic(None), _plug_bare, _unplug_bare),
        "plugged, no limit": (_nic(None), fabric.ensure_plugged, fabric.ensure_unplugged),
        "plugged as anybody (no anti-spoofing)": (
            replace(_nic(None), anti_spoofing=False),
            fabric.ensure_plugged,
            fabric.ensure_unplugged,
        ),
        "limits that are never reached": (
            _nic(Qos(inbound=WIDE, outbound=WIDE)),
            fabric.ensure_plugged,
            fabric.ensure_unplugged,
        ),
        "limited to 1 MiB/s": (
            _nic(Qos(inbound=NARROW, outbound=NARROW)),
            fabric.ensure_plugged,
            fabric.ensure_unplugged,
        ),
    }
    measured: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS):
        for what, (vif, plug, unplug) in cases.items():
            progress(f"round {number + 1}: {what}")
            for way, bits_s in _throughput_of(vif, plug, unplug, f"{name}g").items():
                measured.setdefault((what, way), []).append(bits_s)
    bare = next(iter(cases))
    for (what, way), bits in measured.items():
        ratio = p50(bits) / p50(measured[bare, way])
        yield Row(what=f"{what}, {way}", value=f"{p50(bits) / MIB_BITS:.1f} MiB/s", other=f"{ratio:.2f} of bare")


def _throughput_of(vif: VifPlan, plug: Plug, unplug: Plug, namespace: str) -> dict[str, float]:
    """Bits a second by way, as the guest sees it."""
    plug(vif)
    try:
        with open_tap_guest(vif, namespace), _iperf_server():
            asked = partial(_measured, namespace, vif.gateway)
            return {"received": asked("--reverse"), "sent": asked()}
    finally:
        unplug(vif)


def _measured(namespace: str, server: str, *more: str) -> float:
    argv = [
        "ip",
        "netns",
        "exec",
        namespace,
        "iperf3",
        "-c",
        server,
        "-p",
        GUESTS_PORT,
        "-t",
        str(SECONDS),
        "--json",
        *more,
    ]
    return float(json.loads(run_or_fail(argv, limit_s=LIMIT_S))["end"]["sum_received"]["bits_per_second"])


def _nic(qos: Qos | None) -> VifPlan:
    on = network(mtu=1500, dhcp=False)
    return vif_plan_for(replace(port(0, on), qos=qos), on, hostname="web-0")


def _plug_bare(vif: VifPlan) -> None:
    """What anybody would do with `ip`: no filter, no limit."""
    with open_netlink() as netlink:
        ensure_tap(netlink, name=vif.tap, owner=vif.owner, mtu=vif.mtu)
    for words in (
        f"link add {vif.bridge} address {bridge_mac_for(vif.network_id)} type bridge forward_delay 0",
        f"addr add {vif.gateway}/{vif.prefix_length} dev {vif.bridge}",
        f"link set {vif.tap} master {vif.bridge}",
        f"link set {vif.bridge} up",
        f"link set {vif.tap} up",
    ):
        run_or_fail(["ip", *words.split()], limit_s=LIMIT_S)


def _unplug_bare(vif: VifPlan) -> None:
    with open_netlink() as netlink:
        ensure_tap_absent(netlink, name=vif.tap, owner=vif.owner)
    run_or_fail(["ip", "link", "delete", vif.bridge], limit_s=LIMIT_S)


@contextmanager
def _host() -> Iterator[tuple[Path, str]]:
    """A state directory and a name that namespaces may begin with; this thread is on a host of its own."""
    name = f"bench{os.getpid()}"
    with ExitStack() as stack:
        state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-net-")))
        state_dir.chmod(0o755)
        stack.enter_context(open_namespace(name))
        stack.enter_context(entered_namespace(name))
        yield state_dir, name


@contextmanager
def _iperf_server() -> Iterator[None]:
    with subprocess.Popen(
        ["iperf3", "-s", "--forceflush", "-p", GUESTS_PORT], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            while "listening" not in server.stdout.readline():
                if server.poll() is not None:
                    pytest.fail("iperf3 did not start", pytrace=False)
            yield
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
