"""A real guest whose disks are RBD images: QEMU boots from a clone in a real cluster, and its disk is copied while it runs."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.ids import OperationId, image_id_for, instance_id_for
from taskvisor.model.plan import CachedImage, DiskLayout, DiskRole, Seed
from taskvisor.model.records import Instance
from taskvisor.model.states import ImageFormat
from tests.fixtures.ceph import POOL, Ceph
from tests.fixtures.hosts import Libvirtd
from tests.system.nodes import wait_until
from tests.virt.sample_guests import INSTANCE
from virt.disks import LocalDisks
from virt.domain import render
from virt.hypervisor import LibvirtHypervisor
from virt.layout import disk_layout_for
from virt.policy import HostChoices, domain_config_for, machine_for
from virt.progress import ignore_progress
from virt.qcow2_header import read_header
from virt.stores.opening import StoreOptions

pytestmark = pytest.mark.real

BACKEND = DiskBackend(kind=BackendKind.RBD, pool=POOL)
BOOT_LIMIT_S = 300.0
GUEST = replace(
    INSTANCE,
    id=instance_id_for(OperationId("build-in-ceph")),
    flavor=replace(INSTANCE.flavor, vcpus=1, memory_mib=128, disk_gib=1, swap_mib=64),
    ports=(),
    disk_backend=BACKEND,
)


@pytest.fixture
def hypervisor(libvirtd: Libvirtd, host_namespace: str) -> Iterator[LibvirtHypervisor]:
    """On which the guest is gone after the test."""
    opened = LibvirtHypervisor(libvirtd.uri, qemu_log_dir=str(libvirtd.directory / "log" / "qemu"))
    yield opened
    opened.ensure_undefined(GUEST.id)


def cached(path: Path) -> CachedImage:
    header = read_header(path)
    return CachedImage(
        path=str(path),
        sha256=sha256(path.read_bytes()).hexdigest(),
        format=ImageFormat.QCOW2,
        size_bytes=path.stat().st_size,
        virtual_bytes=header.virtual_bytes,
    )


def test_a_guest_boots_from_ceph_and_is_copied_while_it_runs(
    hypervisor: LibvirtHypervisor, ceph: Ceph, guest_image: Path, tmp_state_dir: Path
) -> None:
    disks = LocalDisks(tmp_state_dir, StoreOptions(backend=BACKEND, ceph=ceph.access))
    layout, xml = planned(hypervisor, ceph, GUEST, tmp_state_dir)
    disks.ensure_directory(layout, GUEST.id)
    disks.ensure_data_disk(layout.disk(DiskRole.SWAP))
    disks.ensure_root(layout.disk(DiskRole.ROOT), cached(guest_image))
    disks.ensure_seed(
        layout.disk(DiskRole.SEED),
        Seed(
            meta_data="{}",
            user_data="#!/bin/sh\nswapon $(findfs LABEL=swap) && echo swap is there",
            network_config="{}",
        ),
    )

    hypervisor.ensure_defined(GUEST.id, xml)
    hypervisor.ensure_running(GUEST.id)
    console_log = Path(layout.console_log)
    wait_until(lambda: "swap is there" in console_log.read_text(errors="replace"), "the guest to boot", BOOT_LIMIT_S)
    target = disks.snapshot_path(image_id_for(OperationId("copy-of-it")))
    hypervisor.copy_disk(GUEST.id, layout.disk(DiskRole.ROOT).device, target, ignore_progress)
    assert read_header(Path(target)).virtual_bytes == 1 << 30

    hypervisor.ensure_undefined(GUEST.id)
    disks.ensure_removed(GUEST.id)
    assert ceph.run("rbd", "ls", POOL) == ""
    assert disks.list_directories() == ()


def planned(hypervisor: LibvirtHypervisor, ceph: Ceph, guest: Instance, root: Path) -> tuple[DiskLayout, str]:
    """Its disks and its definition."""
    facts = hypervisor.read_facts()
    layout = disk_layout_for(
        guest, instances_dir=str(root / "instances"), machine=machine_for(guest, facts), backend=BACKEND
    )
    config = domain_config_for(guest, layout, (), facts, choices=HostChoices(ceph=ceph.access))
    return layout, render(config)
