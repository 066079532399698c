"""A host whose guests have raw disks, with everything real: it boots, is copied on and off, and nothing is left of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until
from tests.virt.made_images import qemu_img
from virt.qcow2_header import read_header

pytestmark = pytest.mark.real

BOOT_LIMIT_S = 300.0
GIB = 1 << 30
FLAVOR = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1, "swap_mib": 64, "ephemeral_gib": 1}
LOOK = """#!/bin/sh
for label in ephemeral0 swap; do
  disk=$(basename "$(findfs LABEL=$label)")
  echo "$label: disk $(cat /sys/block/$disk/serial)"
done
echo "root: $(cat /sys/block/vda/size) sectors"
"""


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host on which nothing is left when its guests have been deleted."""
    options = {"TASKVISOR_DISK_BACKEND": "raw", "TASKVISOR_RAW_PREALLOCATION": "falloc"}
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri, **options) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []


def wait_for_words(directory: Path, words: str, *, times: int = 1) -> None:
    """The guest has said so on its serial console."""
    console_log = directory / "console.log"
    wait_until(lambda: console_log.read_text(errors="replace").count(words) >= times, words, BOOT_LIMIT_S)


def test_a_guest_boots_from_a_raw_disk_and_is_copied_while_it_runs_and_when_it_is_off(
    nodes: Nodes, guest_image: Path, tmp_path: Path
) -> None:
    guest = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=FLAVOR, user_data=LOOK)

    directory = nodes.state_dir / "instances" / guest["id"]
    wait_for_words(directory, "user-data ended")
    said = (directory / "console.log").read_text(errors="replace")
    assert "ephemeral0: disk ephemeral" in said
    assert "swap: disk swap" in said
    assert f"root: {GIB // 512} sectors" in said
    for name in ("disk.raw", "disk.eph0"):
        facts = (directory / name).stat()
        assert (facts.st_size, facts.st_blocks * 512 >= GIB) == (GIB, True)
    assert not (directory / "disk").exists()

    live = nodes.ask("instance.snapshot", instance="web", image="live")
    nodes.ask("instance.stop", instance="web", timeout_s=0)
    cold = nodes.ask("instance.snapshot", instance="web", image="cold")
    for made in (live, cold):
        path = Path(made["snapshot"]["url"].removeprefix("file://"))
        assert read_header(path).virtual_bytes == GIB
        assert read_header(path).backing_file is None
    path = Path(cold["snapshot"]["url"].removeprefix("file://"))
    qemu_img("compare", "-f", "qcow2", "-F", "raw", path, directory / "disk.raw")

    again = nodes.ask("instance.build", name="again", image="live", flavor=FLAVOR)
    wait_for_words(nodes.state_dir / "instances" / again["id"], "taskvisor-guest: ready")
