"""Volumes in Ceph: QEMU itself opens the image, as whom the operator says (`CephAccess`). The host connects to nothing.

That the image exists is for QEMU to find out: only it holds the key, in libvirt's secret.
"""

from taskvisor.model.plan import DiskStorage
from taskvisor.model.volume import VolumeSource
from virt.volumes.connector import Connector, Place


class CephConnector(Connector):
    """An image of a pool."""

    def place_for(self, source: VolumeSource) -> Place:
        return Place(path=source.path, storage=DiskStorage.RBD)

    def ensure_connected(self, source: VolumeSource) -> None:
        """The host has no part in it."""

    def ensure_disconnected(self, source: VolumeSource) -> None:
        """Nor here."""
