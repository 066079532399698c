"""Guests with disks that are made empty, and one that boots from an ISO, with everything real."""

import io
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from taskvisor.model.ids import ImageId
from taskvisor.model.records import Image, ImageSource
from taskvisor.model.states import ImageFormat, VmState
from taskvisor.state.codec import encode
from taskvisor.state.keys import Keys
from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until

pytestmark = pytest.mark.real

BOOT_LIMIT_S = 180.0
GIB = 1 << 30

LOOK = """#!/bin/sh
for label in ephemeral0 swap; do
  disk=$(basename "$(findfs LABEL=$label)")
  echo "$label: disk $(cat /sys/block/$disk/serial) of $(cat /sys/block/$disk/size) sectors"
done
swapon "$(findfs LABEL=swap)" && echo "swap in use: $(sed -n 's/^SwapTotal: *//p' /proc/meminfo)"
"""
"""What the guest has by these labels, and that the kernel takes the one as swap."""

SAYS_SO = bytes.fromhex("fc31c08ed8be1e7cbafd03eca82074fbac84c07406baf803eeebedf4ebfd") + b"booted from the ISO\r\n\0"
"""A boot sector for 0000:7c00 that writes what follows it to COM1, then halts:

    cld; xor ax,ax; mov ds,ax; mov si,7c1eh
    next: mov dx,3fdh; wait: in al,dx; test al,20h; jz wait; lodsb; test al,al; jz halt; mov dx,3f8h; out dx,al; jmp next
    halt: hlt; jmp halt
"""


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host on which no directory is left when its guests have been deleted."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []


def wait_for_words(directory: Path, words: str, *, times: int = 1) -> None:
    """The guest has said so on its serial console."""
    console_log = directory / "console.log"
    wait_until(lambda: console_log.read_text(errors="replace").count(words) >= times, words, BOOT_LIMIT_S)


def test_a_guest_finds_its_swap_and_its_ephemeral_disk(nodes: Nodes, guest_image: Path) -> None:
    flavor = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1, "swap_mib": 64, "ephemeral_gib": 1}

    guest = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=flavor, user_data=LOOK)

    directory = nodes.state_dir / "instances" / guest["id"]
    wait_for_words(directory, "user-data ended")
    said = (directory / "console.log").read_text(errors="replace")
    assert "ephemeral0: disk ephemeral of 2097152 sectors" in said
    assert "swap: disk swap of 131072 sectors" in said
    assert "swap in use: 65532 kB" in said


def test_a_guest_boots_from_an_iso_beside_an_empty_disk(nodes: Nodes, tmp_path: Path) -> None:
    register(nodes, "installer", bootable_iso(tmp_path / "installer.iso"))
    flavor = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}

    guest = nodes.ask("instance.build", name="fresh", image="installer", flavor=flavor)

    directory = nodes.state_dir / "instances" / guest["id"]
    wait_for_words(directory, "booted from the ISO")
    target = (directory / "disk.target").stat()
    assert (target.st_size, target.st_blocks) == (GIB, 0)

    nodes.ask("instance.reboot", instance="fresh", type="hard")
    wait_for_words(directory, "booted from the ISO", times=2)

    with pytest.raises(Exception, match="cannot take a snapshot of fresh: it was built from an ISO"):
        nodes.ask("instance.snapshot", instance="fresh", image="gold")
    assert nodes.catalog.list_instances()[0].vm_state is VmState.ACTIVE


def bootable_iso(path: Path) -> Path:
    """An ISO whose boot sector is SAYS_SO (El Torito, without emulation)."""
    iso = pycdlib.PyCdlib()
    iso.new()
    sector = SAYS_SO.ljust(2048, b"\0")
    iso.add_fp(io.BytesIO(sector), len(sector), "/BOOT.;1")
    iso.add_eltorito("/BOOT.;1", "/BOOT.CAT;1")
    iso.write(str(path))
    iso.close()
    return path


def register(nodes: Nodes, name: str, path: Path) -> None:
    """The ISO is a registered image."""
    size_bytes = path.stat().st_size
    image = Image(
        id=ImageId("6ba7b810-9dad-51d1-80b4-00c04fd430c8"),
        name=name,
        source=ImageSource(url=path.as_uri(), format=ImageFormat.ISO),
        size_bytes=size_bytes,
        virtual_bytes=size_bytes,
        created_at=0.0,
    )
    keys = Keys(PREFIX)
    nodes.redis.set(keys.image(name), encode(image))
    nodes.redis.hset(keys.images, name, image.id)
