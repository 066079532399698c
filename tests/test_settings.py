"""taskvisor/settings.py: what an operator may say of images and guests, and what is refused in words."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from taskvisor.model.disk_backend import BackendKind, DiskBackend, Preallocation
from taskvisor.model.operator import CephAccess, Dialect, MetadataDialect, OperatorChoices, Vendor
from taskvisor.model.snapshot import DEFAULT_ENCODING, Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat
from taskvisor.settings import Settings, environment_for
from virt.domain.display import VideoModel
from virt.stores.opening import StoreOptions
from workers.adapters import store_options_of
from workers.choices import operator_choices_of
from workers.node import OpenNode


def test_images_may_lie_anywhere_unless_told() -> None:
    assert Settings().image_roots == "/"


@pytest.mark.parametrize("roots", ["", "images", "/a:", "/a:b", "/a/../b"])
def test_image_roots_are_absolute_directories(roots: str) -> None:
    with pytest.raises(ValidationError, match="must be absolute paths without"):
        Settings(image_roots=roots)


@pytest.mark.parametrize("stores", ["file", "s3,local", "simplecache", "S3", "reference", "s3, gs"])
def test_image_stores_are_object_stores(stores: str) -> None:
    with pytest.raises(ValidationError, match="must be of abfs, abfss, az"):
        Settings(image_stores=stores)


def test_settings_of_images_reach_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(image_roots="/a:/b", image_stores="", max_image_disk_gib=7, image_keep_s=4000)
    for name, value in environment_for(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_open_vswitch_is_asked_by_a_socket_of_this_host() -> None:
    assert Settings(ovsdb="unix:/tmp/db.sock").ovsdb == "unix:/tmp/db.sock"
    with pytest.raises(ValidationError, match="ovsdb"):
        Settings(ovsdb="tcp:192.0.2.1:6640")


CHOSEN = {
    "TASKVISOR_DEFINITION_DIALECT": "nova",
    "TASKVISOR_METADATA_DIALECT": "nova-1.0",
    "TASKVISOR_SMBIOS_MANUFACTURER": "Acme Inc.",
    "TASKVISOR_SMBIOS_PRODUCT": "VM",
    "TASKVISOR_SMBIOS_VERSION": "7",
    "TASKVISOR_SMBIOS_SERIAL": "s-1",
    "TASKVISOR_VNC_ADDRESS": "::1",
    "TASKVISOR_VNC_KEYMAP": "de-ch",
    "TASKVISOR_VIDEO_MODEL": "virtio",
    "TASKVISOR_KERNEL_ROOTS": "/srv/kernels:/boot",
    "TASKVISOR_SHARED_CPUS": "0-2,8",
    "TASKVISOR_DEDICATED_CPUS": "4,5",
    "TASKVISOR_CEPH_USER": "vms",
    "TASKVISOR_CEPH_SECRET_UUID": "5f6c1a52-8a3e-4c58-9d0c-0a1b2c3d4e5f",
    "TASKVISOR_CEPH_MONITORS": "10.0.0.1,[fd00::3]:6789",
    "TASKVISOR_CEPH_CONFIG_FILE": "/etc/ceph/lab.conf",
}


def test_without_settings_of_guests_they_are_as_the_code_has_them() -> None:
    assert operator_choices_of(Settings()) == OperatorChoices()


def test_settings_of_guests_are_what_the_operator_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CHOSEN.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert operator_choices_of(settings) == OperatorChoices(
        dialect=Dialect.NOVA,
        metadata_dialect=MetadataDialect.NOVA_1_0,
        vendor=Vendor(manufacturer="Acme Inc.", product="VM", version="7", serial="s-1"),
        vnc_address="::1",
        vnc_keymap="de-ch",
        video_model="virtio",
        kernel_roots=("/srv/kernels", "/boot"),
        shared_cpus=frozenset({0, 1, 2, 8}),
        dedicated_cpus=frozenset({4, 5}),
        ceph=CephAccess(
            user="vms",
            secret_uuid="5f6c1a52-8a3e-4c58-9d0c-0a1b2c3d4e5f",
            monitors=("10.0.0.1", "[fd00::3]:6789"),
            config_file="/etc/ceph/lab.conf",
        ),
    )
    assert CHOSEN.items() <= environment_for(settings).items()


BACKENDS = [
    ({}, DiskBackend(), StoreOptions()),
    (
        {"disk_backend": "raw", "raw_preallocation": "full"},
        DiskBackend(kind=BackendKind.RAW),
        StoreOptions(backend=DiskBackend(kind=BackendKind.RAW), preallocation=Preallocation.FULL),
    ),
    (
        {"disk_backend": "lvm", "lvm_group": "guests", "lvm_thin_pool": "thin", "rbd_pool": "vms"},
        DiskBackend(kind=BackendKind.LVM, pool="guests"),
        StoreOptions(backend=DiskBackend(kind=BackendKind.LVM, pool="guests"), thin_pool="thin"),
    ),
    (
        {"disk_backend": "rbd", "rbd_pool": "vms", "ceph_user": "nova", "lvm_group": "old"},
        DiskBackend(kind=BackendKind.RBD, pool="vms"),
        StoreOptions(backend=DiskBackend(kind=BackendKind.RBD, pool="vms"), ceph=CephAccess(user="nova")),
    ),
]


@pytest.mark.parametrize(("chosen", "backend", "stores"), BACKENDS)
def test_settings_of_disks_are_what_the_operator_chose(
    chosen: dict[str, str], backend: DiskBackend, stores: StoreOptions
) -> None:
    settings = Settings.model_validate(chosen)
    assert (operator_choices_of(settings).disk_backend, store_options_of(settings)) == (backend, stores)


@pytest.mark.parametrize(
    ("chosen", "rule"),
    [
        ({"disk_backend": "zfs"}, "'qcow2', 'raw', 'lvm' or 'rbd'"),
        ({"disk_backend": "lvm"}, "needs TASKVISOR_LVM_GROUP"),
        ({"disk_backend": "rbd", "rbd_pool": "vms"}, "needs TASKVISOR_RBD_POOL and TASKVISOR_CEPH_USER"),
        ({"disk_backend": "rbd", "ceph_user": "vms"}, "needs TASKVISOR_RBD_POOL and TASKVISOR_CEPH_USER"),
        ({"lvm_thin_pool": "thin"}, "TASKVISOR_LVM_THIN_POOL needs TASKVISOR_LVM_GROUP"),
        ({"raw_preallocation": "falloc"}, "needs TASKVISOR_DISK_BACKEND=raw"),
        ({"lvm_group": "-rf"}, "pattern"),
        ({"rbd_pool": "a/b"}, "pattern"),
    ],
)
def test_settings_of_disks_that_do_not_go_together_are_refused_in_words(chosen: dict[str, str], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings.model_validate(chosen)


def test_what_a_host_makes_of_snapshots_reaches_their_steps(tmp_path: Path) -> None:
    def encoding(**chosen: str) -> SnapshotEncoding:
        settings = Settings.model_validate({"driver": "simulated", "state_dir": tmp_path, **chosen})
        node = OpenNode(
            settings,
            incarnation="one",
            outcome_for=lambda *_: None,
            launch=lambda _: None,
            tell=lambda _: None,
            ask=lambda *_: None,
        )
        return node.ports.limits.snapshot_encoding

    assert encoding() == DEFAULT_ENCODING
    assert encoding(snapshot_format="raw", snapshot_compression="zstd") == SnapshotEncoding(
        format=ImageFormat.RAW, compression=Compression.ZSTD
    )


@pytest.mark.parametrize("model", sorted(set(VideoModel) - {VideoModel.GOP}))  # bhyve's
def test_every_video_model_of_qemu_can_be_chosen(model: VideoModel) -> None:
    assert Settings.model_validate({"video_model": model.value}).video_model == model


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("definition_dialect", "xen", "'ours' or 'nova'"),
        ("metadata_dialect", "nova-2.0", "'ours', 'nova' or 'nova-1.0'"),
        ("smbios_manufacturer", "", "at least 1 character"),
        ("smbios_product", "a\nb", "pattern"),
        ("smbios_serial", "x" * 65, "at most 64 characters"),
        ("vnc_address", "localhost", "must be an IPv4 or IPv6 address"),
        ("vnc_keymap", "en us", "pattern"),
        ("video_model", "gop", "'vga'"),
        ("kernel_roots", "kernels", "must be absolute paths without"),
        ("kernel_roots", "/a::/b", "must be absolute paths without"),
        ("shared_cpus", "3-1", "no range of CPUs"),
        ("shared_cpus", "all", "no CPU and no range"),
        ("ceph_user", "client vms", "pattern"),
        ("ceph_secret_uuid", "key", "pattern"),
        ("ceph_monitors", "10.0.0.1 10.0.0.2", "pattern"),
        ("ceph_config_file", "ceph.conf", "pattern"),
        ("snapshot_format", "vmdk", "'qcow2' or 'raw'"),
        ("snapshot_compression", "lz4", "'none', 'zlib' or 'zstd'"),
    ],
)
def test_a_wrong_choice_is_refused_in_words(field: str, value: Any, rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings.model_validate({field: value})
