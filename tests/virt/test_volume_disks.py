"""Volumes as libvirt is told of them: each kind of place, all that may be wished, and that libvirt takes it."""

from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from taskvisor.model.operator import CephAccess
from taskvisor.model.plan import DiskBus, VolumePlan
from taskvisor.model.states import ImageFormat
from taskvisor.model.tuning import VolumeCache, VolumeDiscard, VolumeIo, VolumeLimits, VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.contract.plans import instance, instance_id
from tests.fixtures.hosts import Libvirtd
from virt.hypervisor import LibvirtHypervisor
from virt.layout import disk_layout_for
from virt.policy import HostChoices, domain_config_for
from virt.simulated import SimulatedHypervisor
from virt.volumes import open_host_volumes

SECRET = "5f6c1a52-8a3e-4c58-9d0c-0a1b2c3d4e5f"
CHOICES = HostChoices(ceph=CephAccess(user="vms", secret_uuid=SECRET, monitors=("10.0.0.1",)))
ALL = VolumeTuning(
    shareable=True,
    readonly=True,
    cache=VolumeCache.DIRECTSYNC,
    io=VolumeIo.IO_URING,
    discard=VolumeDiscard.IGNORE,
    limits=VolumeLimits(total_bytes_s=1000, read_iops=10, write_iops=20),
)
ISCSI = "iscsi://10.0.0.9:3260/iqn.2010-10.org.example:disk/1"
VOLUMES = (
    VolumeAttachment(source="file:///srv/v.raw", serial="file", tuning=ALL),
    VolumeAttachment(source="block:///dev/disk/by-id/x", serial="block"),
    VolumeAttachment(source="nfs://filer/export/v.raw", serial="nfs", bus=DiskBus.SATA),
    VolumeAttachment(source=ISCSI, serial="iscsi", tuning=VolumeTuning(cache=VolumeCache.WRITEBACK)),
    VolumeAttachment(source="rbd://volumes/v", serial="rbd", device="vdz"),
)


def plans(root: Path) -> tuple[VolumePlan, ...]:
    volumes = open_host_volumes(root, ())
    return tuple(volumes.plan_for(volume) for volume in VOLUMES)


def xml_with_volumes(root: Path, hypervisor: SimulatedHypervisor | LibvirtHypervisor) -> str:
    facts = hypervisor.read_facts()
    layout = disk_layout_for(
        instance(), instances_dir=str(root / "instances"), machine=facts.machine, volumes=plans(root)
    )
    return domain_config_for(instance(), layout, (), facts, choices=CHOICES).to_xml()


def shown(xml: str, serial: str) -> str:
    """The disk of that serial, as text on one line."""
    (disk,) = (one for one in etree.fromstring(xml).iterfind("devices/disk") if one.findtext("serial") == serial)
    return "".join(line.strip() for line in etree.tostring(disk, encoding="unicode").splitlines())


def test_each_kind_of_place_has_its_own_source(tmp_path: Path) -> None:
    xml = xml_with_volumes(tmp_path, SimulatedHypervisor(tmp_path / "host"))

    assert shown(xml, "block") == (
        '<disk type="block" device="disk"><driver name="qemu" type="raw" cache="none" io="native" discard="unmap"/>'
        '<source dev="/dev/disk/by-id/x"/><target dev="vdc" bus="virtio"/><serial>block</serial></disk>'
    )
    assert '<target dev="sda" bus="sata"/>' in shown(xml, "nfs")
    assert f'<source file="{tmp_path}/volumes/nfs/' in shown(xml, "nfs")
    assert (
        '<driver name="qemu" type="raw" cache="writeback" discard="unmap"/>'
        '<source dev="/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.2010-10.org.example:disk-lun-1"/>'
    ) in shown(xml, "iscsi")
    assert shown(xml, "rbd") == (
        '<disk type="network" device="disk"><driver name="qemu" type="raw" cache="none" discard="unmap"/>'
        '<source protocol="rbd" name="volumes/v"><host name="10.0.0.1"/>'
        f'<auth username="vms"><secret type="ceph" uuid="{SECRET}"/></auth></source>'
        '<target dev="vdz" bus="virtio"/><serial>rbd</serial></disk>'
    )


def test_all_that_is_wished_of_a_volume_is_told(tmp_path: Path) -> None:
    xml = xml_with_volumes(tmp_path, SimulatedHypervisor(tmp_path / "host"))

    assert shown(xml, "file") == (
        '<disk type="file" device="disk">'
        '<driver name="qemu" type="raw" cache="directsync" io="io_uring" discard="ignore"/>'
        '<source file="/srv/v.raw"/><target dev="vdb" bus="virtio"/>'
        "<iotune><total_bytes_sec>1000</total_bytes_sec><read_iops_sec>10</read_iops_sec>"
        "<write_iops_sec>20</write_iops_sec></iotune>"
        "<readonly/><shareable/><serial>file</serial></disk>"
    )


@pytest.mark.real
def test_libvirt_takes_volumes_of_every_kind(libvirtd: Libvirtd, tmp_path: Path) -> None:
    hypervisor = LibvirtHypervisor(libvirtd.uri, virt_type="qemu")
    try:
        hypervisor.ensure_defined(instance_id(), xml_with_volumes(tmp_path, hypervisor))
        facts = hypervisor.read_domain(instance_id())
        assert facts is not None
        assert facts.owned
    finally:
        hypervisor.ensure_undefined(instance_id())
        hypervisor.close()


def test_the_plan_of_a_volume_says_all_that_its_record_does(tmp_path: Path) -> None:
    first = plans(tmp_path)[0]
    assert first == VolumePlan(
        serial="file",
        path="/srv/v.raw",
        storage=first.storage,
        format=ImageFormat.RAW,
        tuning=ALL,
    )
    assert replace(first, tuning=None) != first
