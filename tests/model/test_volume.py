"""Where volumes are: one way to write each place, and what is no place."""

import pytest

from taskvisor.model.ids import HostName
from taskvisor.model.volume import (
    VolumeScheme,
    parse_volume_source,
    volume_identity_for,
    volume_lies_below,
    volume_serial_for,
)

WRITTEN = (
    ("file:///srv//v.qcow2", "file:///srv/v.qcow2"),
    ("file://localhost/srv/./v.qcow2", "file:///srv/v.qcow2"),
    ("file:///srv/a%20b.raw", "file:///srv/a%20b.raw"),
    ("block:///dev/disk/by-id/wwn-0x5000", "block:///dev/disk/by-id/wwn-0x5000"),
    ("nfs://Filer.Example/export/dir/v.raw", "nfs://filer.example/export/dir/v.raw"),
    ("nfs://[FD00::3]/export/v.raw", "nfs://[fd00::3]/export/v.raw"),
    ("iscsi://10.0.0.9/iqn.2010-10.org.example:disk/1", "iscsi://10.0.0.9:3260/iqn.2010-10.org.example:disk/1"),
    ("iscsi://[fd00:0::9]:3261/iqn.2010-10.org.example:d/0", "iscsi://[fd00::9]:3261/iqn.2010-10.org.example:d/0"),
    ("rbd://volumes/db-1", "rbd://volumes/db-1"),
)
NO_PLACES = (
    ("/srv/v.qcow2", "must be a URL of file, block, iscsi, rbd, nfs"),
    ("http://server/v.qcow2", "must be a URL of"),
    ("file://server/srv/v.qcow2", "must name something of the guest's host"),
    ("file:///srv/../etc/shadow", "without '..'"),
    ("file:///srv/%2e%2e/etc/shadow", "without '..'"),
    ("file:///", "must end in the path of a file"),
    ("file:///srv/a%00b", "control characters"),
    ("file:///srv/a b", "must not hold spaces"),
    ("block:///srv/v.raw", "must name a device"),
    ("nfs:///export/v.raw", "must name a server"),
    ("nfs://-o,suid/export/v.raw", "must name a server"),
    ("nfs://filer:2049/export/v.raw", "and no port"),
    ("iscsi://target.example/iqn.2010-10.org.example:d/1", "must name its portal by address"),
    ("iscsi://10.0.0.9/iqn.2010-10.org.example:d", "must be iscsi://ADDRESS"),
    ("iscsi://10.0.0.9/--login/1", "must be iscsi://ADDRESS"),
    ("iscsi://chap:secret@10.0.0.9/iqn.2010-10.org.example:d/1", "no user"),
    ("rbd://volumes", "must be rbd://POOL/IMAGE"),
    ("rbd://volumes/a@snap", "must be rbd://POOL/IMAGE"),
    ("rbd://volumes/a?conf=/etc/passwd", "no query"),
)


@pytest.mark.parametrize(("text", "url"), WRITTEN)
def test_a_place_is_written_in_one_way(text: str, url: str) -> None:
    assert parse_volume_source(text).url == url
    assert parse_volume_source(url).url == url


@pytest.mark.parametrize(("text", "rule"), NO_PLACES)
def test_what_is_no_place_is_told_by_the_rule_that_it_breaks(text: str, rule: str) -> None:
    with pytest.raises(ValueError) as broken:
        parse_volume_source(text)
    assert rule in str(broken.value)


def test_what_lies_on_one_host_is_known_by_that_host_too() -> None:
    h1 = HostName("h1")
    assert volume_identity_for("file:///srv/v.raw", h1) == "h1/file:///srv/v.raw"
    assert volume_identity_for("rbd://volumes/v", h1) == "rbd://volumes/v"
    assert {scheme for scheme in VolumeScheme if scheme.is_local} == {VolumeScheme.FILE, VolumeScheme.BLOCK}


def test_a_serial_that_nobody_asked_for_follows_from_the_source_and_is_seen_whole_on_virtio() -> None:
    one, other = volume_serial_for("rbd://volumes/a"), volume_serial_for("rbd://volumes/b")
    assert one == volume_serial_for("rbd://volumes/a") != other
    assert len(one) == 20


@pytest.mark.parametrize(
    ("root", "below"),
    [
        ("file:///srv", True),
        ("file:///srv/", True),
        ("file:///srv/v.raw", True),
        ("file:///sr", False),
        ("file:///srv/v", False),
        ("block:///srv", False),
    ],
)
def test_a_root_is_the_beginning_up_to_the_end_of_a_segment(root: str, below: bool) -> None:
    assert volume_lies_below("file:///srv/v.raw", root) is below
