"""What an operator may say of all guests' cloud-init."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from taskvisor.model.states import SeedKind
from taskvisor.settings import Settings, environment_for
from workers.choices import vendor_data_path_of
from workers.node import OpenNode
from workers.preflight import list_problems


def test_unless_told_guests_have_nocloud_and_no_vendor_data() -> None:
    assert (Settings().config_drive, vendor_data_path_of(Settings())) == (SeedKind.NOCLOUD, None)


def test_what_the_operator_says_reaches_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(config_drive=SeedKind.CONFIG_DRIVE_VFAT, vendor_data_file="/etc/taskvisor/vendor-data")
    for name, value in environment_for(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert vendor_data_path_of(Settings()) == Path("/etc/taskvisor/vendor-data")


@pytest.mark.parametrize(("name", "value"), [("CONFIG_DRIVE", "iso9660"), ("VENDOR_DATA_FILE", "vendor-data")])
def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TASKVISOR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.real
def test_vendor_data_that_cant_be_read_are_said_before_a_worker_starts(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "vendor-data"
    settings = Settings(
        redis_url=redis_url,
        state_dir=tmp_path / "state",
        libvirt_uri="test:///default",
        vendor_data_file=str(path),
        allow_volatile_redis=True,
    )
    assert [problem for problem in list_problems(settings) if "vendor data" in problem] == [
        f"cannot read vendor data: [Errno 2] No such file or directory: '{path}';"
        " correct the file, or TASKVISOR_VENDOR_DATA_FILE on this host"
    ]
    path.write_text("#cloud-config\n")
    assert not [problem for problem in list_problems(settings) if "vendor data" in problem]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_metadata_service_is_there_unless_the_operator_says_no(wanted: bool, tmp_path: Path) -> None:
    assert Settings().metadata_service
    settings = Settings(metadata_service=wanted, driver="simulated", state_dir=tmp_path)
    node = OpenNode(
        settings,
        incarnation="i",
        outcome_for=lambda *_: None,
        launch=lambda *_: None,
        tell=lambda *_: None,
        ask=lambda *_: None,
    )
    assert node.ports.limits.metadata_service is wanted
