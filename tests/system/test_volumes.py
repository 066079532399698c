"""Volumes with everything real: seen inside the guest, plugged in and let go of while it runs, and whole for the next one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until
from virt.readback import parse_domain

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

BOOT_LIMIT_S = 240.0
MIB = 1 << 20
FLAVOR = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}

LOOK = """#!/bin/sh
look() {
  for disk in $(ls /sys/block | grep '^vd'); do
    serial=$(cat "/sys/block/$disk/serial")
    case $serial in vol-*|extra) echo "$disk is $serial";; esac
  done
}
tell() {
  while true; do
    echo "found: $1; volumes now: $(echo $(look))."
    sleep 1
  done
}
dmesg -n 1
found=$(head -c 16 /dev/vdb | tr -d '\\0')
printf 'written by %s' "$(hostname)" | dd of=/dev/vdb conv=notrunc 2>/dev/null
sync
tell "$found" >/dev/console &
"""
"""Looks what is on vdb, leaves a word there, and says again and again what it found and which volumes it sees.

Once would not do: the kernel speaks on the same console, in the middle of a line.
"""


@pytest.fixture
def storage() -> Iterator[Path]:
    """A directory of volumes that the host may attach. They outlive the guests, and are removed by us."""
    with tempfile.TemporaryDirectory(prefix="tvt-storage-") as directory:
        yield Path(directory)


@pytest.fixture
def nodes(
    libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path, storage: Path
) -> Iterator[Nodes]:
    """A host on which no directory and no connection is left when its guests have been deleted."""
    options: dict[str, Any] = {"TASKVISOR_VOLUME_ROOTS": storage.as_uri()}
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri, **options) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []
        assert list((tmp_state_dir / "volumes" / "users").iterdir()) == []
        assert list(running.redis.scan_iter(f"{PREFIX}volume:*")) == []


def volume(storage: Path, name: str) -> str:
    """The URL of an empty raw file of 1 MiB."""
    path = storage / name
    with path.open("wb") as file:
        file.truncate(MIB)
    return path.as_uri()


def said(nodes: Nodes, guest: Any) -> str:
    console_log: Path = nodes.state_dir / "instances" / guest["id"] / "console.log"
    return console_log.read_text(errors="replace")


def wait_for_words(nodes: Nodes, guest: Any, words: str) -> None:
    """The guest has said so on its serial console."""
    wait_until(lambda: words in said(nodes, guest), f"the guest to say {words!r}", BOOT_LIMIT_S)


def serials_of(libvirtd: Libvirtd, guest: Any) -> list[str | None]:
    """The serials of the disks that libvirt's guest has now."""
    connection = libvirt.open(libvirtd.uri)
    try:
        disks = parse_domain(connection.lookupByUUIDString(guest["id"]).XMLDesc()).disks
    finally:
        connection.close()
    return sorted((disk.serial for disk in disks), key=["root", "extra", None].index)


def test_a_volume_is_the_guests_while_it_is_attached_and_the_next_ones_after(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path, storage: Path
) -> None:
    first, extra = volume(storage, "first.raw"), volume(storage, "extra.raw")
    asked: dict[str, Any] = {"image": str(guest_image), "flavor": FLAVOR, "user_data": LOOK, "host": "kvm1"}

    web = nodes.ask("instance.build", name="web", volumes=[first], **asked)
    (seen,) = web["volumes"]
    serial = seen["serial"]
    assert (seen["device"], len(serial)) == ("vdb", 20)
    wait_for_words(nodes, web, f"found: ; volumes now: vdb is {serial}.")

    with pytest.raises(Exception, match=f"first.raw is held by instance {web['id']}; detach it there first"):
        nodes.ask("instance.build", name="other", volumes=[first], **asked)

    grown = nodes.ask("instance.attach_volume", instance="web", volume={"source": extra, "serial": "extra"})
    assert [found["device"] for found in grown["volumes"]] == ["vdb", "vdc"]
    wait_for_words(nodes, web, f"volumes now: vdb is {serial} vdc is extra.")

    left = nodes.ask("instance.detach_volume", instance="web", volume=first)
    assert [found["serial"] for found in left["volumes"]] == ["extra"]
    wait_for_words(nodes, web, "volumes now: vdc is extra.")

    nodes.ask("instance.reboot", instance="web", type="hard")
    assert serials_of(libvirtd, web) == ["root", "extra", None]

    second = nodes.ask("instance.build", name="second", volumes=[first], **asked)
    wait_for_words(nodes, second, "found: written by web; volumes now: vdb is ")
