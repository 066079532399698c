"""NICs with everything real: plugged into a guest that runs, served by DHCP, let go of; restored when somebody removes them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until
from virt.libvirt_xml import macs_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

BOOT_LIMIT_S = 240.0
FLAVOR = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}

LOOK = """#!/bin/sh
look() {
  for nic in $(ls /sys/class/net | grep '^eth'); do
    echo "$(cat /sys/class/net/$nic/address)=$(ip -4 -o addr show dev $nic | sed 's/.*inet \\([0-9.]*\\).*/\\1/')"
  done
}
serve() {
  for nic in $(ls /sys/class/net | grep '^eth'); do
    index=$(cat "/sys/class/net/$nic/ifindex")
    [ -e "/tmp/nic$index" ] && continue
    : >"/tmp/nic$index"
    [ "$index" = "$first" ] && continue
    rm -f "${FACTS:-/run/guest}/address"  # what its DHCP client sets it does not set again
    ip link set "$nic" up
    udhcpc -f -i "$nic" -s /etc/udhcpc.script -t 5 -T 1 -A 1 >/dev/null 2>&1 &
  done
}
tell() {
  while true; do
    serve
    echo "NICs now: $(echo $(look))."
    sleep 1
  done
}
dmesg -n 1
first=$(cat /sys/class/net/eth0/ifindex)
tell >/dev/console &
"""
"""Asks for an address on each NIC that comes, and says again and again which NICs there are, and their addresses."""


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host whose guests are deleted in the end."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list(running.redis.scan_iter(f"{PREFIX}addresses:*")) == []


def said(nodes: Nodes, guest: Any) -> str:
    """The latest of what the guest has said on its serial console."""
    console_log: Path = nodes.state_dir / "instances" / guest["id"] / "console.log"
    return console_log.read_text(errors="replace")[-2000:]


def wait_for_nics(nodes: Nodes, guest: Any) -> None:
    """The guest says of itself that it has the NICs of its record, and their addresses by DHCP."""
    words = " ".join(f"{port['mac']}={port['address']}" for port in guest["ports"])
    wait_until(lambda: f"NICs now: {words}." in said(nodes, guest), f"the guest to say {words!r}", BOOT_LIMIT_S)


def nics_of(libvirtd: Libvirtd, guest: Any) -> list[str]:
    """The MACs of the NICs that libvirt's guest has now."""
    connection = libvirt.open(libvirtd.uri)
    try:
        return list(macs_of(connection.lookupByUUIDString(guest["id"]).XMLDesc()))
    finally:
        connection.close()


def test_a_nic_is_the_running_guests_while_it_is_attached(nodes: Nodes, libvirtd: Libvirtd, guest_image: Path) -> None:
    web = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=FLAVOR, user_data=LOOK)
    wait_for_nics(nodes, web)

    grown = nodes.ask("instance.attach_interface", instance="web", interface="default")
    assert len(grown["ports"]) == 2
    wait_for_nics(nodes, grown)

    left = nodes.ask("instance.detach_interface", instance="web", interface=grown["ports"][1]["mac"])
    assert left["ports"] == web["ports"]
    wait_for_nics(nodes, left)
    assert nics_of(libvirtd, web) == [port["mac"] for port in web["ports"]]
    links = subprocess.run(["ip", "-o", "link", "show", "type", "tun"], check=True, capture_output=True, text=True)
    assert len(links.stdout.splitlines()) == 1


def test_what_somebody_removes_of_a_running_guests_plug_is_restored_and_the_guest_is_reached_again(
    nodes: Nodes, guest_image: Path
) -> None:
    web = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=FLAVOR, user_data=LOOK)
    wait_for_nics(nodes, web)
    wait_until(lambda: pings(web), "the guest to answer", BOOT_LIMIT_S)
    tap = f"tap{web['ports'][0]['id'][:11]}"

    run("nft", "flush", "ruleset")
    run("ip", "link", "set", tap, "nomaster")
    assert not pings(web)
    wait_until(lambda: answers_after_a_look(nodes, web), "the guest to answer on its bridge again", BOOT_LIMIT_S)
    assert "nat_brq" in run("nft", "list", "ruleset")

    run("ip", "link", "delete", tap)
    assert not pings(web)
    wait_until(lambda: answers_after_a_look(nodes, web), "the guest to answer on a new link", BOOT_LIMIT_S)
    wait_for_nics(nodes, web)
    assert int(nodes.redis.hget(f"{PREFIX}counters", "plugs_restored") or 0) >= 2


def answers_after_a_look(nodes: Nodes, guest: Any) -> bool:
    """The guest answers, or its host is asked to look at its plugs, as beat asks it: a guest takes its time to let go."""
    if pings(guest):
        return True
    nodes.producer.send_task("host.check_networks", queue=f"host.{nodes.host}.control", ignore_result=True)
    return False


def pings(guest: Any) -> bool:
    argv = ["ping", "-c", "1", "-W", "1", guest["addresses"][0]]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
