"""Logging in to iSCSI targets, by runs written down from the manual of open-iscsi 2.1.8: this kernel has no iSCSI."""

from pathlib import Path

import pytest

from taskvisor.model.errors import Refused, Retryable
from taskvisor.model.volume import parse_volume_source
from tests.virt.volumes.recorded import Recorded
from virt.volumes import iscsi
from virt.volumes.iscsi import IscsiConnector

SOURCE = parse_volume_source("iscsi://10.0.0.9/iqn.2010-10.org.example:disk/1")
NODE = "iscsiadm -m node -T iqn.2010-10.org.example:disk -p 10.0.0.9:3260"
NO_RECORD = (21, "iscsiadm: No records found")
DEVICE = "ip-10.0.0.9:3260-iscsi-iqn.2010-10.org.example:disk-lun-1"


class Clock:
    """A clock that a sleep moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Devices that were looked at: here they are plain files."""
    seen: list[Path] = []
    monkeypatch.setattr(iscsi, "require_block_device", lambda path, _: seen.append(path))
    return seen


def connector(run: Recorded, by_path: Path) -> IscsiConnector:
    clock = Clock()
    return IscsiConnector(run, by_path, now=clock.now, sleep=clock.sleep)


def test_the_first_login_makes_a_record_that_is_not_started_by_itself(tmp_path: Path, checked: list[Path]) -> None:
    def log_in(argv: list[str]) -> None:
        if argv[-1] == "--login":
            (tmp_path / DEVICE).touch()

    run = Recorded({NODE: NO_RECORD}, log_in)

    connector(run, tmp_path).ensure_connected(SOURCE)

    assert run.ran == [
        NODE,
        f"{NODE} --interface default --op new",
        f"{NODE} --op update -n node.startup -v manual",
        f"{NODE} --login",
    ]
    assert checked == [tmp_path / DEVICE]


def test_a_record_that_is_there_keeps_its_credentials_and_a_session_is_used_again(
    tmp_path: Path, checked: list[Path]
) -> None:
    (tmp_path / DEVICE).touch()
    run = Recorded({"--login": (15, "iscsiadm: default: 1 session requested, but 1 already present.")})

    connector(run, tmp_path).ensure_connected(SOURCE)

    assert not any(line.endswith("--op new") for line in run.ran)
    assert checked == [tmp_path / DEVICE]


def test_a_unit_that_is_newer_than_the_session_is_scanned_for(tmp_path: Path, checked: list[Path]) -> None:
    def rescan(argv: list[str]) -> None:
        if argv[-1] == "--rescan":
            (tmp_path / DEVICE).touch()

    run = Recorded({"--login": (15, "already present")}, rescan)

    connector(run, tmp_path).ensure_connected(SOURCE)

    assert run.ran[-1] == f"{NODE} --rescan"


def test_a_unit_that_does_not_appear_is_waited_for_no_longer_than_the_limit(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match=r"has not appeared within 30 s of the login"):
        connector(Recorded(), tmp_path).ensure_connected(SOURCE)


def test_a_target_that_refuses_us_is_told_with_where_the_credentials_are(tmp_path: Path) -> None:
    run = Recorded(
        {"--login": (24, "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)")}
    )
    with pytest.raises(Refused, match=r"authorization failure\); see node.session.auth in /etc/iscsi/iscsid.conf"):
        connector(run, tmp_path).ensure_connected(SOURCE)


def test_a_target_that_does_not_answer_may_answer_next_time(tmp_path: Path) -> None:
    run = Recorded({"--login": (8, "iscsiadm: initiator reported error (8 - connection timed out)")})
    with pytest.raises(Retryable, match="timed out"):
        connector(run, tmp_path).ensure_connected(SOURCE)


def test_logging_out_takes_the_record_along(tmp_path: Path) -> None:
    run = Recorded()
    connector(run, tmp_path).ensure_disconnected(SOURCE)
    assert run.ran == [f"{NODE} --logout", f"{NODE} --op delete"]


def test_there_may_be_nothing_to_log_out_of(tmp_path: Path) -> None:
    run = Recorded({"--logout": (21, "iscsiadm: No matching sessions found"), "delete": NO_RECORD})
    connector(run, tmp_path).ensure_disconnected(SOURCE)
    assert len(run.ran) == 2


def test_a_logout_that_fails_is_not_success(tmp_path: Path) -> None:
    run = Recorded({"--logout": (12, "iscsiadm: Could not logout of session: device or resource busy")})
    with pytest.raises(Retryable, match="busy"):
        connector(run, tmp_path).ensure_disconnected(SOURCE)
