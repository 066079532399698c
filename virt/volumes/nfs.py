"""Volumes that are files of an NFS server: the directory that holds the file is mounted, once for all its volumes.

    mount -t nfs -o nosuid,nodev,noexec,hard filer:/export/dir <state>/volumes/nfs/<digest>

`hard`: a server that is away makes guests wait, and nothing is lost; `soft` would give them I/O errors in the midst of a
write (nfs(5)). `nosuid,nodev,noexec`: the server's files are disks here, and never programs or devices of the host. What is
mounted is asked of the kernel each time (proc_pid_mountinfo(5)).

Not run against a server where this was written (no nfs in the kernel): composed by mount(8), tested by recorded runs.
"""

from pathlib import Path

from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.plan import DiskStorage
from taskvisor.model.volume import VolumeSource
from virt.command import CommandFailed
from virt.durable import ensure_directory
from virt.volumes.connector import Connector, Place
from virt.volumes.host_state import Run, digest_of, read_mount
from virt.volumes.local import require_file

MOUNT_LIMIT_S = 90.0
OPTIONS = "nosuid,nodev,noexec,hard"
_DENIED = ("access denied", "No such file or directory", "not exported")


class NfsConnector(Connector):
    """Files of NFS servers, mounted below `root`."""

    def __init__(self, root: Path, run: Run, mountinfo: Path) -> None:
        self._root = root
        self._run = run
        self._mountinfo = mountinfo

    def place_for(self, source: VolumeSource) -> Place:
        return Place(path=str(self._mount_point(source) / source.file_name), storage=DiskStorage.FILE)

    def target_for(self, source: VolumeSource) -> str:
        return f"nfs://{_exported(source)}"

    def ensure_connected(self, source: VolumeSource) -> None:
        point = self._mount_point(source)
        if not self._is_mounted(source):
            ensure_directory(point, mode=0o755)
            self._mount(source, point)
        require_file(point / source.file_name, source)

    def ensure_disconnected(self, source: VolumeSource) -> None:
        point = self._mount_point(source)
        if self._is_mounted(source):
            self._run(["umount", str(point)], time_limit_s=MOUNT_LIMIT_S)
        if point.exists():
            point.rmdir()

    def _mount_point(self, source: VolumeSource) -> Path:
        return self._root / digest_of(_exported(source))

    def _is_mounted(self, source: VolumeSource) -> bool:
        point, wanted = self._mount_point(source), _exported(source)
        found = read_mount(self._mountinfo, point)
        if found not in (None, wanted):
            raise Contradiction(f"{point} is where {wanted} belongs, and {found} is mounted there; left alone")
        return found is not None

    def _mount(self, source: VolumeSource, point: Path) -> None:
        try:
            self._run(["mount", "-t", "nfs", "-o", OPTIONS, _exported(source), str(point)], time_limit_s=MOUNT_LIMIT_S)
        except CommandFailed as failed:
            if any(said in failed.stderr for said in _DENIED):
                raise Refused(f"volume {source.url}: the server does not give {source.directory}: {failed}") from failed
            raise


def _exported(source: VolumeSource) -> str:
    return f"{source.server}:{source.directory}"
