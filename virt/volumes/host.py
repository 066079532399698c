"""The port Volumes: which connector a volume needs, who may use it, and when the last user has gone.

A use is written down before anything is connected and removed after all is disconnected, so that a crash at any moment
leaves either nothing or something with an owner's name, which the next call carries on from.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import ConnectedVolume
from taskvisor.model.plan import DiskStorage, VolumePlan
from taskvisor.model.volume import VolumeAttachment, VolumeScheme, VolumeSource, parse_volume_source, volume_lies_below
from virt.command import run_command
from virt.volumes.ceph import CephConnector
from virt.volumes.connector import Connector, Place
from virt.volumes.host_state import BY_PATH, MOUNTINFO, Run
from virt.volumes.iscsi import IscsiConnector
from virt.volumes.local import BlockConnector, FileConnector
from virt.volumes.nfs import NfsConnector
from virt.volumes.users import VolumeUser, VolumeUsers

log = structlog.get_logger(__name__)


class HostVolumes:
    """See the port. `roots` are beginnings of the URLs that this host may go to; None: everywhere."""

    def __init__(
        self, root: Path, connectors: Mapping[VolumeScheme, Connector], roots: Sequence[str] | None = ()
    ) -> None:
        self._users = VolumeUsers(root)
        self._connectors = connectors
        self._roots = roots

    def plan_for(self, volume: VolumeAttachment) -> VolumePlan:
        """See the port."""
        source = parse_volume_source(volume.source)
        place = self._connectors[source.scheme].place_for(source)
        return VolumePlan(
            serial=volume.serial,
            path=place.path,
            storage=place.storage,
            format=volume.format,
            device=volume.device,
            boot_index=volume.boot_index,
            bus=volume.bus,
            tuning=volume.tuning,
        )

    def ensure_connected(self, volume: VolumeAttachment, instance_id: InstanceId) -> None:
        """See the port."""
        source = parse_volume_source(volume.source)
        self._require_allowed(source)
        connector = self._connectors[source.scheme]
        target, place = connector.target_for(source), connector.place_for(source)
        user = VolumeUser(source=source.url, instance_id=instance_id, shareable=volume.tuning.shareable)
        with self._users.alone_with(target):
            known = self._users.read(target, user.source, instance_id)
            self._users.put(target, known or user)
            connector.ensure_connected(source)
            connector.require_format(source, volume.format)
            user = replace(user, thing=_thing_at(source, place))
            self._users.put(target, user)
        self._require_alone(user)
        log.info("volume_connected", source=user.source, instance_id=instance_id)

    def ensure_disconnected(self, source: str, instance_id: InstanceId) -> None:
        """See the port."""
        parsed = parse_volume_source(source)
        connector = self._connectors[parsed.scheme]
        target = connector.target_for(parsed)
        with self._users.alone_with(target):
            users = self._users.list_of(target)
            mine = [user for user in users if (user.source, user.instance_id) == (parsed.url, instance_id)]
            if not mine:
                return
            if len(users) == 1:
                connector.ensure_disconnected(parsed)
            self._users.remove(target, parsed.url, instance_id)
        log.info("volume_disconnected", source=parsed.url, instance_id=instance_id)

    def list_connected(self) -> tuple[ConnectedVolume, ...]:
        """See the port."""
        return tuple(
            ConnectedVolume(source=user.source, instance_id=user.instance_id) for user in self._users.list_all()
        )

    def _require_allowed(self, source: VolumeSource) -> None:
        if self._roots is None or any(volume_lies_below(source.url, root) for root in self._roots):
            return
        allowed = ", ".join(self._roots) or "nowhere"
        raise Refused(
            f"volume {source.url}: this host goes for volumes to {allowed}; an operator may add to TASKVISOR_VOLUME_ROOTS"
        )

    def _require_alone(self, user: VolumeUser) -> None:
        """Each writes first and looks then, so of two that come at once at least one sees the other."""
        for other in self._users.list_all():
            is_same = other.source == user.source or (user.thing is not None and other.thing == user.thing)
            if other.instance_id != user.instance_id and is_same and not (other.shareable and user.shareable):
                raise Refused(
                    f"volume {user.source}: instance {other.instance_id} uses it on this host, as {other.source};"
                    " detach it there first, or let both say shareable"
                )


def open_host_volumes(
    state_dir: Path,
    roots: Sequence[str],
    *,
    run: Run = run_command,
    mountinfo: Path = MOUNTINFO,
    by_path: Path = BY_PATH,
) -> HostVolumes:
    """The volumes of a real host: what we note and mount lies in `volumes` below the state directory."""
    root = state_dir / "volumes"
    connectors: dict[VolumeScheme, Connector] = {
        VolumeScheme.FILE: FileConnector(state_dir),
        VolumeScheme.BLOCK: BlockConnector(),
        VolumeScheme.NFS: NfsConnector(root / "nfs", run, mountinfo),
        VolumeScheme.ISCSI: IscsiConnector(run, by_path),
        VolumeScheme.RBD: CephConnector(),
    }
    return HostVolumes(root, connectors, roots)


def _thing_at(source: VolumeSource, place: Place) -> str:
    """What the path leads to, whatever it is called: the device, or the file by file system and inode."""
    if place.storage is DiskStorage.RBD:
        return place.path
    try:
        found = os.stat(place.path)
    except OSError as error:
        raise CannotAsk(f"cannot look at volume {source.url}: {error.strerror}") from error
    return f"device {found.st_rdev}" if stat.S_ISBLK(found.st_mode) else f"file {found.st_dev} {found.st_ino}"
