"""A start asks the hypervisor which host it is on and which guests of ours it has; half an answer is none."""

import sys
from pathlib import Path

import pytest

from taskvisor.model.errors import CannotAsk
from taskvisor.settings import Settings
from tests.fixtures.hosts import Libvirtd
from tests.support.fleet import Fleet
from virt.command import LineProgram
from virt.host_look import parse_host_id
from workers import host_look
from workers.host_look import read_host_look
from workers.machine import lasting_id, read_boot_id, read_firmware_ids, read_machine_id


def program(text: str) -> LineProgram:
    return LineProgram([sys.executable, "-c", f"print({text!r})"], {})


def test_a_simulated_host_tells_its_guests_and_no_machine(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "simulated").symlink_to(fleet.hosts["h1"].root)  # type: ignore[index]
    fleet.build()
    look = read_host_look(Settings(driver="simulated", state_dir=tmp_path))
    assert (look.hypervisor_id, [guest.id for guest in look.guests]) == (None, [fleet.instance().id])


@pytest.mark.parametrize("text", ["", "{", '{"guests": 2}\n{"id": "1", "name": "web"}', "[]"])
def test_half_an_answer_is_none(text: str) -> None:
    with pytest.raises(CannotAsk):
        host_look._read_lines(program(text))


def test_why_libvirt_could_not_be_asked_is_told() -> None:
    with pytest.raises(CannotAsk, match="libvirtd is away"):
        host_look._read_lines(program('{"problem": "libvirtd is away"}'))


def test_the_host_of_the_capabilities_is_found() -> None:
    assert parse_host_id("<capabilities><host><uuid>u-1</uuid></host></capabilities>") == "u-1"
    assert parse_host_id("<capabilities><host/></capabilities>") is None


def test_a_machine_tells_its_id_and_its_boot(tmp_path: Path) -> None:
    named, empty = tmp_path / "named", tmp_path / "empty"
    named.write_text("0123456789abcdef0123456789abcdef\n")
    empty.write_text("uninitialized\n")
    assert read_machine_id(named) == "0123456789abcdef0123456789abcdef"
    assert read_machine_id(empty) is read_machine_id(tmp_path / "none") is None
    assert read_boot_id() == read_boot_id() != ""
    with pytest.raises(CannotAsk):
        read_boot_id(tmp_path / "none")


def test_only_an_id_that_outlasts_libvirtd_counts(tmp_path: Path) -> None:
    board, made_up = "4C4C4544-0001-4010-8020-000000000001", "6a1b9bb2-0000-4000-8000-000000000000"
    (tmp_path / "product_uuid").write_text(f"{board}\n")
    firmware_ids = read_firmware_ids((tmp_path / "product_uuid", tmp_path / "none"))
    assert firmware_ids == {board}
    for machine_id in (None, "6a1b9bb2" + "0" * 24):
        assert lasting_id(board.lower(), machine_id=machine_id, firmware_ids=firmware_ids) == board.lower()
        assert lasting_id(made_up, machine_id=machine_id, firmware_ids=firmware_ids) is None
    assert lasting_id(made_up, machine_id=made_up.replace("-", ""), firmware_ids=()) == made_up
    assert lasting_id(None, machine_id=None, firmware_ids=firmware_ids) is None


@pytest.mark.real
def test_libvirt_tells_its_host_and_its_guests(libvirtd: Libvirtd, tmp_state_dir: Path) -> None:
    look = read_host_look(Settings(libvirt_uri=libvirtd.uri, state_dir=tmp_state_dir))
    again = read_host_look(Settings(libvirt_uri=libvirtd.uri, state_dir=tmp_state_dir))
    assert (look, look.guests) == (again, ())


@pytest.mark.real
def test_a_libvirt_that_is_away_is_no_empty_one(tmp_state_dir: Path) -> None:
    with pytest.raises(CannotAsk, match="does not answer"):
        read_host_look(Settings(libvirt_uri=f"qemu:///system?socket={tmp_state_dir}/none", state_dir=tmp_state_dir))
