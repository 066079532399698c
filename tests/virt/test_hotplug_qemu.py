"""What can't be plugged into a guest that runs, on real QEMU: its caller is told to stop it first."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.plan import AttachedDisk, DiskBus
from taskvisor.model.states import ImageFormat
from tests.contract.plans import instance_id, xml_for
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import run_or_fail
from virt.domain.disk import DiskConfig, DiskDriverConfig, DiskKind
from virt.domain.disk_source import FileSourceConfig
from virt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

GUEST = instance_id()
Attach = Callable[[str, DiskBus], None]


@pytest.fixture
def attach(libvirtd: Libvirtd, tmp_path: Path) -> Iterator[Attach]:
    """Attaches a disk of that device name and bus to a guest that runs on a q35 board."""
    hypervisor = LibvirtHypervisor(libvirtd.uri, virt_type="qemu")
    root = tmp_path / "disk"
    run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", root, "8M"], limit_s=60.0)
    facts = hypervisor.read_facts()
    assert facts.support.machines is not None
    hypervisor.ensure_defined(GUEST, xml_for(replace(facts, machine=facts.support.machines["q35"]), root))
    hypervisor.ensure_running(GUEST)

    def attached(device: str, bus: DiskBus) -> None:
        path = tmp_path / device
        path.write_bytes(b"\0" * 512)
        config = DiskConfig(
            kind=DiskKind.DISK,
            source=FileSourceConfig(path=str(path)),
            driver=DiskDriverConfig(format=ImageFormat.RAW),
            device=device,
            bus=bus,
            serial=device,
        )
        hypervisor.ensure_disk_attached(GUEST, AttachedDisk(device=device, serial=device, xml=config.to_xml()))

    yield attached
    hypervisor.ensure_undefined(GUEST)
    hypervisor.close()


def test_a_board_without_a_free_slot_takes_no_more(attach: Attach) -> None:
    attach("vdb", DiskBus.VIRTIO)
    with pytest.raises(Refused, match=r"No more available PCI slots\): stop the guest, attach it, and start the guest"):
        attach("vdc", DiskBus.VIRTIO)


def test_sata_takes_nothing_while_the_guest_runs(attach: Attach) -> None:
    with pytest.raises(Refused, match="stop the guest, attach it, and start the guest"):
        attach("sdb", DiskBus.SATA)
