"""A disk's bytes as libvirt is told of them."""

from dataclasses import replace

import pytest
from lxml import etree

from taskvisor.model.errors import DoesNotFit
from taskvisor.model.operator import CephAccess
from taskvisor.model.plan import DiskBus, DiskPlan, DiskRole, DiskStorage
from taskvisor.model.states import ImageFormat
from virt.policy.disk_source import source_for

DISK = DiskPlan(
    role=DiskRole.ROOT,
    path="vms/6ba7_disk",
    format=ImageFormat.RAW,
    bus=DiskBus.VIRTIO,
    device="vda",
    size_bytes=0,
    storage=DiskStorage.RBD,
)
SECRET = "5f6c1a52-8a3e-4c58-9d0c-0a1b2c3d4e5f"


def xml_of(disk: DiskPlan, ceph: CephAccess | None) -> str:
    return etree.tostring(source_for(disk, ceph).to_element()).decode()


def test_a_disk_in_ceph_is_opened_as_the_operators_user_at_the_monitors_named() -> None:
    ceph = CephAccess(user="vms", secret_uuid=SECRET, monitors=("10.0.0.1", "[fd00::3]:6789"))
    assert xml_of(DISK, ceph) == (
        '<source protocol="rbd" name="vms/6ba7_disk"><host name="10.0.0.1"/><host name="fd00::3" port="6789"/>'
        f'<auth username="vms"><secret type="ceph" uuid="{SECRET}"/></auth></source>'
    )


def test_without_monitors_the_configuration_file_names_them() -> None:
    assert xml_of(DISK, CephAccess(user="vms")) == (
        '<source protocol="rbd" name="vms/6ba7_disk"><config file="/etc/ceph/ceph.conf"/></source>'
    )


def test_a_host_without_ceph_does_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="TASKVISOR_CEPH_USER"):
        source_for(DISK, None)


@pytest.mark.parametrize(
    ("storage", "xml"),
    [(DiskStorage.FILE, '<source file="/srv/v"/>'), (DiskStorage.BLOCK, '<source dev="/srv/v"/>')],
)
def test_files_and_devices_are_named_by_their_paths(storage: DiskStorage, xml: str) -> None:
    assert xml_of(replace(DISK, path="/srv/v", storage=storage), None) == xml
