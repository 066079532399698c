"""Mounting from NFS servers, by recorded runs of mount.nfs and mounts as the kernel lists them: this kernel has no NFS."""

from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk, Contradiction, Refused, Retryable
from taskvisor.model.volume import parse_volume_source
from tests.virt.volumes.recorded import Recorded
from virt.volumes.nfs import NfsConnector

SOURCE = parse_volume_source("nfs://filer/export/dir%20one/v.raw")
ROOT_MOUNT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


class Host:
    """A host whose mounts are a file, and whose mount and umount write to it."""

    def __init__(self, root: Path) -> None:
        self.mountinfo = root / "mountinfo"
        self.mountinfo.write_text(ROOT_MOUNT)
        self.run = Recorded(happen=self._change)
        self.volumes = root / "nfs"
        self.connector = NfsConnector(self.volumes, self.run, self.mountinfo)

    @property
    def point(self) -> Path:
        return Path(self.connector.place_for(SOURCE).path).parent

    def add_mount(self, source: str) -> None:
        def escaped(text: object) -> str:
            return str(text).replace(" ", "\\040")

        line = f"90 22 0:50 / {escaped(self.point)} rw,nosuid,nodev - nfs4 {escaped(source)} rw,hard\n"
        self.mountinfo.write_text(self.mountinfo.read_text() + line)

    def _change(self, argv: list[str]) -> None:
        if argv[0] == "mount":
            self.add_mount(argv[-2])
            (self.point / "v.raw").touch()
        else:
            (self.point / "v.raw").unlink()  # what was seen through the mount
            self.mountinfo.write_text(ROOT_MOUNT)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_directory_of_the_file_is_mounted_once(host: Host) -> None:
    for _ in range(2):
        host.connector.ensure_connected(SOURCE)
    assert host.run.ran == [f"mount -t nfs -o nosuid,nodev,noexec,hard filer:/export/dir one {host.point}"]
    assert host.connector.target_for(SOURCE) == "nfs://filer:/export/dir one"


def test_it_is_unmounted_and_its_place_removed_once(host: Host) -> None:
    host.connector.ensure_connected(SOURCE)
    for _ in range(2):
        host.connector.ensure_disconnected(SOURCE)
    assert host.run.ran[1:] == [f"umount {host.point}"]
    assert list(host.volumes.iterdir()) == []


def test_something_else_that_is_mounted_there_is_left_alone(host: Host) -> None:
    host.add_mount("other:/export")
    for act in (host.connector.ensure_connected, host.connector.ensure_disconnected):
        with pytest.raises(Contradiction, match="other:/export is mounted there; left alone"):
            act(SOURCE)
    assert host.run.ran == []


def test_a_file_that_the_server_has_not_is_refused(host: Host) -> None:
    host.point.mkdir(parents=True)
    host.add_mount("filer:/export/dir one")
    with pytest.raises(Refused, match="there is no such file"):
        host.connector.ensure_connected(SOURCE)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("mount.nfs: access denied by server while mounting filer:/export/dir one", Refused),
        (
            "mount.nfs: mounting filer:/export/dir one failed, reason given by server: No such file or directory",
            Refused,
        ),
        ("mount.nfs: Connection timed out", Retryable),
    ],
)
def test_what_the_server_says_no_to_is_refused_and_silence_is_not(
    host: Host, said: str, error: type[Exception]
) -> None:
    host.run.answers[str(host.point)] = (32, said)
    with pytest.raises(error, match="mount"):
        host.connector.ensure_connected(SOURCE)


def test_an_unmount_that_fails_is_not_success(host: Host) -> None:
    host.connector.ensure_connected(SOURCE)
    host.run.answers[f"umount {host.point}"] = (32, "umount: target is busy.")
    with pytest.raises(Retryable, match="busy"):
        host.connector.ensure_disconnected(SOURCE)


def test_mounts_that_cannot_be_read_prove_nothing(host: Host) -> None:
    host.mountinfo.unlink()
    with pytest.raises(CannotAsk):
        host.connector.ensure_disconnected(SOURCE)
