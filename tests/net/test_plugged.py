"""What is missed of a plug that somebody has taken apart, on a real host: found by the look, and whole again after a plug."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from net.fabric import LinuxFabric
from taskvisor.model.observed import PlugPart
from tests.net.guest import open_guest
from tests.net.plans import network, vif

pytestmark = pytest.mark.real

END_LIMIT_S = 60.0
RED = network(9)
VIF = vif(0, RED)


@pytest.fixture
def fabric(host_namespace: str, tmp_state_dir: Path) -> Iterator[LinuxFabric]:
    """Guest 0 is plugged; its TAP is open in nobody's hands."""
    tmp_state_dir.chmod(0o755)  # dnsmasq is an unprivileged user
    opened = LinuxFabric(tmp_state_dir)
    opened.ensure_plugged(VIF)
    yield opened
    opened.ensure_unplugged(VIF)


def missing(fabric: LinuxFabric) -> tuple[PlugPart, ...]:
    lacks = fabric.list_missing((VIF,))
    return lacks[0].parts if lacks else ()


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


def dnsmasq_pid(state_dir: Path) -> int:
    return int((state_dir / "net" / "networks" / RED.id / "dnsmasq.pid").read_text())


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("nft", "flush", "ruleset"), PlugPart.FILTER),
        (("ip", "link", "set", VIF.tap, "nomaster"), PlugPart.LINK),
        (("ip", "link", "set", VIF.tap, "down"), PlugPart.LINK),
        (("ip", "link", "delete", VIF.tap), PlugPart.LINK),
        (("ip", "address", "flush", "dev", VIF.bridge), PlugPart.LINK),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_what_is_taken_away_is_missed_and_nothing_else(
    fabric: LinuxFabric, argv: tuple[str, ...], part: PlugPart
) -> None:
    run(*argv)
    assert set(missing(fabric)) - {PlugPart.GUEST} == {part}

    fabric.ensure_plugged(VIF)

    assert set(missing(fabric)) == {PlugPart.GUEST}


def kill(pid: int) -> None:
    """The process has ended, and its sockets are free: it is gone from /proc somewhat earlier."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        assert select([process], [], [], END_LIMIT_S)[0], f"process {pid} did not end"
    finally:
        os.close(process)


def test_a_dhcp_server_that_has_ended_is_missed_though_its_files_are_there(
    fabric: LinuxFabric, tmp_state_dir: Path
) -> None:
    pid = dnsmasq_pid(tmp_state_dir)
    kill(pid)
    assert PlugPart.DHCP in missing(fabric)

    fabric.ensure_plugged(VIF)

    assert PlugPart.DHCP not in missing(fabric)
    assert dnsmasq_pid(tmp_state_dir) != pid


def test_a_link_that_nobody_has_open_is_told_and_one_that_is_open_is_not(fabric: LinuxFabric) -> None:
    assert missing(fabric) == (PlugPart.GUEST,)
    with open_guest(VIF.tap, VIF.mac):
        assert missing(fabric) == ()
    assert missing(fabric) == (PlugPart.GUEST,)
