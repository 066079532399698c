"""What the flows work with on a host: libvirt, disks, images, links and volumes, or files that simulate them.

A process that runs no steps, or simulates them, carries neither libvirt nor netlink: they are imported where they are opened.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from taskvisor.flow.ports import Disks, Fabric, Hypervisor, ImageCache, Volumes
from taskvisor.settings import Settings
from workers.choices import ceph_access_of, disk_backend_of, root_of

if TYPE_CHECKING:
    from virt.stores.opening import StoreOptions

GIB = 1024**3


class Adapters(NamedTuple):
    """One of each port that has to do with a host's guests."""

    hypervisor: Hypervisor
    disks: Disks
    images: ImageCache
    fabric: Fabric
    volumes: Volumes


def open_adapters(settings: Settings) -> Adapters:
    """Those that TASKVISOR_DRIVER names."""
    if settings.driver == "simulated":
        return _open_simulated(root_of(settings), settings.image_keep_s)
    return _open_real(settings)


def _open_real(settings: Settings) -> Adapters:
    from net.fabric import LinuxFabric  # noqa: PLC0415
    from virt.disks import LocalDisks  # noqa: PLC0415
    from virt.hypervisor import LibvirtHypervisor  # noqa: PLC0415
    from virt.volumes import open_host_volumes  # noqa: PLC0415

    root = settings.state_dir
    return Adapters(
        hypervisor=LibvirtHypervisor(
            settings.libvirt_uri, virt_type=settings.virt_type, lists_pci_devices=bool(settings.pci_devices)
        ),
        disks=LocalDisks(root, store_options_of(settings)),
        images=open_image_cache(settings),
        fabric=LinuxFabric(root, ovsdb=settings.ovsdb),
        volumes=open_host_volumes(root, tuple(filter(None, settings.volume_roots.split(",")))),
    )


def _open_simulated(root: Path, evict_after_s: float) -> Adapters:
    from net.simulated import SimulatedFabric  # noqa: PLC0415
    from virt.simulated import (  # noqa: PLC0415
        SimulatedDisks,
        SimulatedHypervisor,
        SimulatedImageCache,
        SimulatedVolumes,
    )

    return Adapters(
        hypervisor=SimulatedHypervisor(root),
        disks=SimulatedDisks(root),
        images=SimulatedImageCache(root, evict_after_s=evict_after_s),
        fabric=SimulatedFabric(root),
        volumes=SimulatedVolumes(root),
    )


def store_options_of(settings: Settings) -> "StoreOptions":
    """How disks are made on this host."""
    from virt.stores.opening import StoreOptions  # noqa: PLC0415

    return StoreOptions(
        backend=disk_backend_of(settings),
        preallocation=settings.raw_preallocation,
        thin_pool=settings.lvm_thin_pool,
        ceph=ceph_access_of(settings),
    )


def open_image_cache(settings: Settings) -> ImageCache:
    """The cache of this host. By path, of the state directory only published snapshots are read: the rest is guests' own."""
    from virt.images.cache import LocalImageCache  # noqa: PLC0415
    from virt.images.source import KERNEL_DIRECTORIES, SourceLimits  # noqa: PLC0415

    root = settings.state_dir.resolve()  # a path that is asked for is judged by where it really leads
    snapshots = root / "images"
    limits = SourceLimits(
        image_bytes=settings.max_image_gib * GIB,
        file_roots=(*(Path(named).resolve() for named in settings.image_roots.split(":")), snapshots),
        closed_directories=(*KERNEL_DIRECTORIES, root),
        open_directories=(snapshots,),
        store_schemes=frozenset(filter(None, settings.image_stores.split(","))),
    )
    return LocalImageCache(
        settings.state_dir / "cache",
        limits=limits,
        virtual_limit_bytes=settings.max_image_disk_gib * GIB,
        disk_roots=(root / "instances", snapshots),
        evict_after_s=settings.image_keep_s,
    )
