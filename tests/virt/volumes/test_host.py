"""Who may use a volume on this host, where it may lie, and when it is let go of: on real files, and by recorded runs."""

import os
import subprocess
from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk, Refused, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import ConnectedVolume
from taskvisor.model.plan import DiskStorage
from taskvisor.model.states import ImageFormat
from taskvisor.model.tuning import VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.virt.volumes.recorded import Recorded
from virt.volumes import HostVolumes, open_host_volumes

ONE, OTHER = InstanceId("00000000-0000-4000-8000-000000000001"), InstanceId("00000000-0000-4000-8000-000000000002")
SHARED = VolumeTuning(shareable=True)


class Host:
    """A host that may go to the directory `srv`, to devices, to a pool and to a target."""

    def __init__(self, root: Path) -> None:
        self.srv = root / "srv"
        self.srv.mkdir()
        self.state = root / "state"
        self.run = Recorded()
        self.by_path = root / "by-path"
        self.by_path.mkdir()
        self.volumes = self.open()

    def open(self) -> HostVolumes:
        """As another process, or a later one."""
        roots = (self.srv.as_uri(), "block:///dev", "rbd://volumes", "iscsi://10.0.0.9:3260")
        return open_host_volumes(self.state, roots, run=self.run, by_path=self.by_path)

    def file(self, name: str = "v.raw") -> VolumeAttachment:
        path = self.srv / name
        path.touch()
        return VolumeAttachment(source=path.as_uri(), serial="v")

    def qcow2(self, *arguments: str) -> VolumeAttachment:
        path = self.srv / "v.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments, str(path), "1M"], check=True, timeout=60)
        return VolumeAttachment(source=path.as_uri(), serial="v", format=ImageFormat.QCOW2)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path.resolve())


def test_a_connected_volume_is_known_by_its_owner_until_it_is_disconnected(host: Host) -> None:
    volume = host.file()
    for _ in range(2):
        host.volumes.ensure_connected(volume, ONE)
    assert host.open().list_connected() == (ConnectedVolume(source=volume.source, instance_id=ONE),)
    for _ in range(2):
        host.open().ensure_disconnected(volume.source, ONE)
    assert host.volumes.list_connected() == ()
    assert list((host.state / "volumes" / "users").iterdir()) == []
    assert Path(host.volumes.plan_for(volume).path).exists()


def test_what_was_never_connected_is_disconnected(host: Host) -> None:
    host.volumes.ensure_disconnected("rbd://volumes/never", ONE)
    assert host.volumes.list_connected() == ()


@pytest.mark.parametrize("source", ["file:///etc/passwd", "rbd://vms/other_disk", "nfs://filer/export/v.raw"])
def test_where_no_operator_allowed_it_nothing_is_touched(host: Host, source: str) -> None:
    with pytest.raises(Refused, match="an operator may add to TASKVISOR_VOLUME_ROOTS"):
        host.volumes.ensure_connected(VolumeAttachment(source=source, serial="v"), ONE)
    assert host.volumes.list_connected() == ()
    assert host.run.ran == []


def test_nothing_is_allowed_unless_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="goes for volumes to nowhere"):
        open_host_volumes(tmp_path, ()).ensure_connected(VolumeAttachment(source="rbd://p/i", serial="v"), ONE)


def test_a_volume_in_ceph_needs_no_connection_and_is_raw(host: Host) -> None:
    volume = VolumeAttachment(source="rbd://volumes/db", serial="v")
    host.volumes.ensure_connected(volume, ONE)
    plan = host.volumes.plan_for(volume)
    assert (plan.path, plan.storage) == ("volumes/db", DiskStorage.RBD)
    qcow2 = VolumeAttachment(source="rbd://volumes/other", serial="v", format=ImageFormat.QCOW2)
    with pytest.raises(Refused, match="is raw"):
        host.volumes.ensure_connected(qcow2, ONE)


def test_another_instance_is_refused_with_the_users_name_unless_both_share(host: Host) -> None:
    volume = host.file()
    host.volumes.ensure_connected(volume, ONE)
    with pytest.raises(Refused, match=f"instance {ONE} uses it on this host"):
        host.volumes.ensure_connected(volume, OTHER)
    host.volumes.ensure_disconnected(volume.source, OTHER)
    shared = VolumeAttachment(source=host.file("s.raw").source, serial="s", tuning=SHARED)
    host.volumes.ensure_connected(shared, ONE)
    host.volumes.ensure_connected(shared, OTHER)


def test_one_file_by_two_names_is_one_volume(host: Host) -> None:
    volume = host.file()
    os.link(host.srv / "v.raw", host.srv / "alias.raw")
    host.volumes.ensure_connected(volume, ONE)
    with pytest.raises(Refused, match=r"uses it on this host, as file://.*/v\.raw"):
        host.volumes.ensure_connected(host.file("alias.raw"), OTHER)


def test_guests_own_disks_are_no_volumes_whatever_is_allowed(host: Host) -> None:
    disk = host.state / "instances" / "disk"
    disk.parent.mkdir(parents=True)
    disk.touch()
    volumes = open_host_volumes(host.state, ("file:///",))
    with pytest.raises(Refused, match="which is guests' own; keep volumes elsewhere"):
        volumes.ensure_connected(VolumeAttachment(source=disk.as_uri(), serial="v"), ONE)


def test_a_file_behind_a_link_is_refused(host: Host) -> None:
    (host.srv / "link.raw").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="leads through a link"):
        host.volumes.ensure_connected(host.file("link.raw"), ONE)


def test_what_is_not_there_or_is_no_file_is_refused(host: Host) -> None:
    gone = VolumeAttachment(source=(host.srv / "gone.raw").as_uri(), serial="v")
    with pytest.raises(Refused, match="there is no such file"):
        host.volumes.ensure_connected(gone, ONE)
    (host.srv / "directory").mkdir()
    with pytest.raises(Refused, match="is no regular file"):
        host.volumes.ensure_connected(VolumeAttachment(source=(host.srv / "directory").as_uri(), serial="v"), ONE)
    with pytest.raises(Refused, match="is no block device"):
        host.volumes.ensure_connected(VolumeAttachment(source="block:///dev/null", serial="v"), ONE)
    with pytest.raises(Refused, match="there is no such device"):
        host.volumes.ensure_connected(VolumeAttachment(source="block:///dev/taskvisor-none", serial="v"), ONE)


def test_a_qcow2_is_taken_when_it_stands_on_nothing(host: Host) -> None:
    host.volumes.ensure_connected(host.qcow2(), ONE)


def test_a_qcow2_that_would_show_a_file_of_the_host_is_refused(host: Host) -> None:
    with pytest.raises(Refused, match="stands on another file"):
        host.volumes.ensure_connected(host.qcow2("-b", "/etc/passwd", "-F", "raw", "-u"), ONE)


def test_raw_that_is_declared_qcow2_is_refused(host: Host) -> None:
    raw = host.file()
    with pytest.raises(Refused, match="is declared qcow2 and is none"):
        host.volumes.ensure_connected(VolumeAttachment(source=raw.source, serial="v", format=ImageFormat.QCOW2), ONE)


def test_a_session_ends_with_its_last_user(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virt.volumes.iscsi.require_block_device", lambda *_: None)
    units = [
        VolumeAttachment(source=f"iscsi://10.0.0.9:3260/iqn.2010-10.org.example:disk/{lun}", serial=f"u{lun}")
        for lun in (1, 2)
    ]
    for unit, owner in zip(units, (ONE, OTHER), strict=True):
        Path(host.volumes.plan_for(unit).path).touch()
        host.volumes.ensure_connected(unit, owner)
    assert not any("--logout" in line for line in host.run.ran)

    host.volumes.ensure_disconnected(units[0].source, ONE)
    assert not any("--logout" in line for line in host.run.ran)

    host.run.answers["--logout"] = (12, "busy")
    with pytest.raises(Retryable):
        host.volumes.ensure_disconnected(units[1].source, OTHER)
    assert [one.instance_id for one in host.volumes.list_connected()] == [OTHER], "it is known until it is really gone"

    del host.run.answers["--logout"]
    host.volumes.ensure_disconnected(units[1].source, OTHER)
    assert host.volumes.list_connected() == ()


def test_a_record_of_a_user_that_cannot_be_read_proves_nothing(host: Host) -> None:
    volume = host.file()
    host.volumes.ensure_connected(volume, ONE)
    (path,) = (host.state / "volumes" / "users").glob("*/*.json")
    path.write_text("{")
    for act in (host.volumes.list_connected, lambda: host.volumes.ensure_disconnected(volume.source, ONE)):
        with pytest.raises(CannotAsk, match="can't be read"):
            act()
