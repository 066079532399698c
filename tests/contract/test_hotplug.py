"""What a Hypervisor promises of disks that are added to guests and taken away (taskvisor/flow/ports.py).

The real guest here has no system, and so never lets go of a disk while it runs: tests/system/test_volumes.py has one that does.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import Busy, Contradiction, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.plan import AttachedDisk, DiskBus
from taskvisor.model.states import ImageFormat
from tests.contract.hypervisors import HypervisorHost
from tests.contract.test_hypervisor import GUEST, defined, disk, host, running, xml
from virt.domain.disk import DiskConfig, DiskDriverConfig, DiskKind
from virt.domain.disk_source import FileSourceConfig

__all__ = ["defined", "disk", "host", "running", "xml"]


@pytest.fixture
def volume(tmp_path: Path) -> AttachedDisk:
    """A disk of 1 MiB, to be vdb."""
    path = tmp_path / "volume.raw"
    subprocess.run(["truncate", "-s", "1M", str(path)], check=True, timeout=30)
    config = DiskConfig(
        kind=DiskKind.DISK,
        source=FileSourceConfig(path=str(path)),
        driver=DiskDriverConfig(format=ImageFormat.RAW),
        device="vdb",
        bus=DiskBus.VIRTIO,
        serial="v1",
    )
    return AttachedDisk(device="vdb", serial="v1", xml=config.to_xml())


def test_a_disk_is_attached_once_however_often_it_is_asked(defined: HypervisorHost, volume: AttachedDisk) -> None:
    for _ in range(2):
        defined.port.ensure_disk_attached(GUEST, volume)
    assert defined.list_devices(GUEST) == ("vda", "vdb")


def test_a_running_guest_gets_the_disk_at_once(running: HypervisorHost, volume: AttachedDisk) -> None:
    for _ in range(2):
        running.port.ensure_disk_attached(GUEST, volume)
    assert running.list_devices(GUEST) == ("vda", "vdb")


def test_a_disk_of_a_running_guest_is_still_there_after_its_next_start(
    running: HypervisorHost, volume: AttachedDisk
) -> None:
    running.port.ensure_disk_attached(GUEST, volume)
    running.port.ensure_off(GUEST)
    running.port.ensure_running(GUEST)
    assert running.list_devices(GUEST) == ("vda", "vdb")


def test_a_disk_of_a_guest_that_is_off_is_taken_away_at_once(defined: HypervisorHost, volume: AttachedDisk) -> None:
    defined.port.ensure_disk_attached(GUEST, volume)
    for _ in range(2):
        defined.port.ensure_disk_detached(GUEST, "vdb", "v1")
    assert defined.list_devices(GUEST) == ("vda",)


def test_a_guest_that_does_not_let_go_keeps_the_disk_until_it_is_off(
    running: HypervisorHost, volume: AttachedDisk
) -> None:
    running.port.ensure_disk_attached(GUEST, volume)
    running.ensure_paused(GUEST)
    for _ in range(2):
        with pytest.raises(Busy, match=r"has not let go of disk vdb \(v1\)"):
            running.port.ensure_disk_detached(GUEST, "vdb", "v1")
    assert running.list_devices(GUEST) == ("vda", "vdb")

    running.port.ensure_off(GUEST)
    running.port.ensure_disk_detached(GUEST, "vdb", "v1")
    assert running.list_devices(GUEST) == ("vda",)


def test_what_a_guest_was_asked_to_let_go_of_is_attached_again(running: HypervisorHost, volume: AttachedDisk) -> None:
    running.port.ensure_disk_attached(GUEST, volume)
    running.ensure_paused(GUEST)
    with pytest.raises(Busy):
        running.port.ensure_disk_detached(GUEST, "vdb", "v1")

    running.port.ensure_disk_attached(GUEST, volume)

    running.port.ensure_off(GUEST)
    assert running.list_devices(GUEST) == ("vda", "vdb")


def test_another_disk_of_that_name_is_left_alone(defined: HypervisorHost, volume: AttachedDisk) -> None:
    defined.port.ensure_disk_attached(GUEST, volume)
    with pytest.raises(Refused, match="another"):
        defined.port.ensure_disk_attached(GUEST, replace(volume, serial="v2"))
    defined.port.ensure_disk_detached(GUEST, "vdb", "v2")
    assert defined.list_devices(GUEST) == ("vda", "vdb")


def test_nothing_is_attached_to_a_guest_that_is_not_there_and_there_is_nothing_to_detach(
    host: HypervisorHost, volume: AttachedDisk
) -> None:
    with pytest.raises(Refused):
        host.port.ensure_disk_attached(GUEST, volume)
    host.port.ensure_disk_detached(GUEST, "vdb", "v1")


def test_a_strangers_domain_gets_no_disk_and_loses_none(host: HypervisorHost, volume: AttachedDisk) -> None:
    stranger = InstanceId("00000000-0000-4000-8000-00000000f00d")
    host.ensure_foreign_domain(stranger, "somebodys")
    with pytest.raises(Contradiction):
        host.port.ensure_disk_attached(stranger, volume)
    with pytest.raises(Contradiction):
        host.port.ensure_disk_detached(stranger, "vda", "v1")
