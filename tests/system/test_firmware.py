"""Guests whose firmware is UEFI, with everything real: they boot, keep their variables while they live, and leave none."""

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import PREFIX, Nodes, running_nodes, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]  # QEMU without KVM, maybe on a crowded machine

BOOT_LIMIT_S = 240.0
LOG_TAIL_CHARACTERS = 3000
FLAVOR = {"vcpus": 1, "memory_mib": 256, "disk_gib": 1}
UEFI = {"hw_firmware_type": "uefi", "hw_machine_type": "q35", "hw_cdrom_bus": "scsi"}
"""The guest's kernel (Debian's for clouds) has no driver for SATA, which is where a q35 has its CD-ROMs."""


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A host on which neither directories nor UEFI variables are left when its guests have been deleted."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys(f"{PREFIX}names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []
        assert variables_in(libvirtd) == []


def variables_in(libvirtd: Libvirtd) -> list[Path]:
    """The files of UEFI variables that libvirt has, of whichever guest."""
    return list((libvirtd.directory / "lib" / "qemu" / "nvram").glob("*"))


def wait_for_words(nodes: Nodes, instance: dict[str, str], words: str, *, times: int = 1) -> None:
    """The guest has said so on its serial console."""
    log = nodes.state_dir / "instances" / instance["id"] / "console.log"
    try:
        wait_until(lambda: log.read_text(errors="replace").count(words) >= times, words, BOOT_LIMIT_S)
    except AssertionError as error:
        error.add_note(f"its console says: {log.read_text(errors='replace')[-LOG_TAIL_CHARACTERS:]!r}")
        raise


def definition(libvirtd: Libvirtd, instance_id: str) -> etree._Element:
    """What libvirt made of the guest's definition."""
    connection = libvirt.open(libvirtd.uri)
    try:
        return etree.fromstring(connection.lookupByUUIDString(instance_id).XMLDesc())
    finally:
        connection.close()


def test_a_guest_with_uefi_boots_keeps_its_variables_over_a_hard_reboot_and_leaves_none(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    guest = nodes.ask(
        "instance.build", name="efi", image=str(guest_image), flavor=FLAVOR, image_properties=UEFI, user_data=IS_UEFI
    )
    wait_for_words(nodes, guest, "taskvisor-guest: ready")
    wait_for_words(nodes, guest, "booted by UEFI")
    (variables,) = variables_in(libvirtd)
    made = variables.stat().st_ino

    nodes.ask("instance.reboot", instance="efi", type="hard")
    wait_for_words(nodes, guest, "boot number 2")
    assert [path.stat().st_ino for path in variables_in(libvirtd)] == [made]

    nodes.ask("instance.delete", instance="efi")
    assert variables_in(libvirtd) == []


IS_UEFI = "#!/bin/sh\n[ -d /sys/firmware/efi ] && echo booted by UEFI\n"


@pytest.mark.parametrize("wish", ["required", "optional"])
def test_a_guest_that_asks_for_secure_boot_has_firmware_with_keys_and_an_unsigned_system_is_not_started(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path, wish: str
) -> None:
    asked = {**UEFI, "os_secure_boot": wish}

    guest = nodes.ask("instance.build", name="efi", image=str(guest_image), flavor=FLAVOR, image_properties=asked)

    found = definition(libvirtd, guest["id"])
    assert (found.xpath("string(os/loader/@secure)"), found.xpath("string(features/smm/@state)")) == ("yes", "on")
    features = {str(feature.get("name")): feature.get("enabled") for feature in found.iterfind("os/firmware/feature")}
    assert features == {"secure-boot": "yes", "enrolled-keys": "yes"}
    assert len(variables_in(libvirtd)) == 1
    wait_for_words(nodes, guest, "Access Denied")
    assert "taskvisor-guest" not in (nodes.state_dir / "instances" / guest["id"] / "console.log").read_text()


def test_secure_boot_on_a_board_that_can_not_have_it_is_refused(nodes: Nodes, guest_image: Path) -> None:
    asked = {"hw_firmware_type": "uefi", "hw_machine_type": "pc", "os_secure_boot": "required"}
    with pytest.raises(Exception, match="os:secure_boot=required"):
        nodes.ask("instance.build", name="efi", image=str(guest_image), flavor=FLAVOR, image_properties=asked)
    assert nodes.catalog.list_instances() == ()
