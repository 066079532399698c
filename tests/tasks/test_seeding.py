"""What a guest's cloud-init reads follows the records at each start, and is left alone while the guest has it open."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase, PowerState, SeedKind, VmState
from taskvisor.state.codec import encode
from tests.support.fleet import IMAGE, KEYS, SMALL, Fleet
from tests.support.spies import Moment, watched
from virt.seeds.vendor_data import VendorDataFile

H1 = HostName("h1")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFake someone"
FIELDS = {"name": "web", "image": IMAGE, "flavor": SMALL, "ssh_keys": [KEY], "user_data": "#!/bin/sh\n"}


def seed_of(fleet: Fleet) -> dict[str, Any]:
    """The files on the guest's seed."""
    path = fleet.hosts[H1].root / "instances" / fleet.instance().id / "disk.config"
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found


def record(fleet: Fleet, instance: Instance) -> None:
    """The instance's record is another, as if somebody had changed it."""
    fleet.client.set(KEYS.instance(instance.id), encode(instance))


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running."""
    fleet.ask("instance.build", "build", **FIELDS)
    return fleet


@pytest.mark.parametrize("kind", list(SeedKind))
def test_a_guest_has_the_kind_of_drive_that_was_asked_for_and_keeps_it(fleet: Fleet, kind: SeedKind) -> None:
    fleet.ask("instance.build", "build", **FIELDS, config_drive=kind.value)

    assert fleet.instance().config_drive is kind
    assert ("network_data" in seed_of(fleet)) is (kind is not SeedKind.NOCLOUD)
    before = seed_of(fleet)
    assert fleet.ask("instance.reboot", "reboot", instance="web").phase is Phase.SUCCEEDED
    assert seed_of(fleet) == before


def test_an_image_may_need_a_config_drive(fleet: Fleet) -> None:
    needs = {**FIELDS, "image_properties": {"img_config_drive": "mandatory"}}
    with pytest.raises(Refused, match="img_config_drive='mandatory'"):
        fleet.ask("instance.build", "build", **needs, config_drive="nocloud")

    fleet.ask("instance.build", "build", **needs)

    assert fleet.instance().config_drive is SeedKind.CONFIG_DRIVE


def test_the_operator_may_choose_for_all_who_do_not(fleet: Fleet) -> None:
    fleet.door = replace(fleet.door, config_drive=SeedKind.CONFIG_DRIVE)

    fleet.ask("instance.build", "build", **FIELDS)

    assert fleet.instance().config_drive is SeedKind.CONFIG_DRIVE


@pytest.mark.parametrize("way", [["instance.reboot"], ["instance.stop", "instance.start"]])
def test_a_guest_that_starts_again_is_told_what_the_records_say_by_now(guest: Fleet, way: list[str]) -> None:
    first = seed_of(guest)
    record(guest, replace(guest.instance(), ssh_keys=(KEY, KEY + "-else")))

    for number, flow in enumerate(way):
        guest.ask(flow, f"op-{number}", instance="web")

    assert KEY + "-else" in seed_of(guest)["meta_data"]
    assert seed_of(guest)["user_data"] == first["user_data"]
    assert f'"instance-id": "{guest.instance().id}"' in seed_of(guest)["meta_data"]


def test_the_seed_of_a_guest_that_runs_is_left_alone(guest: Fleet) -> None:
    first = seed_of(guest)
    record(guest, replace(guest.instance(), vm_state=VmState.ERROR, ssh_keys=()))

    assert guest.ask("instance.start", "start", instance="web").phase is Phase.SUCCEEDED

    assert seed_of(guest) == first


def test_a_record_that_does_not_know_the_seed_makes_none_anew(guest: Fleet) -> None:
    first = seed_of(guest)
    record(guest, replace(guest.instance(), seed_known=False, ssh_keys=(), user_data=None))

    assert guest.ask("instance.reboot", "reboot", instance="web").phase is Phase.SUCCEEDED

    assert seed_of(guest) == first


def test_the_operators_words_reach_each_guest_that_starts(guest: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "vendor-data"
    path.write_text("#cloud-config\n{}\n")
    guest.use_port("vendor_data", VendorDataFile(path))
    assert seed_of(guest)["vendor_data"] is None

    guest.ask("instance.reboot", "reboot", instance="web")

    assert seed_of(guest)["vendor_data"] == "#cloud-config\n{}\n"


def test_a_guest_starts_with_the_seed_it_had_where_the_operators_words_cant_be_read(
    guest: Fleet, tmp_path: Path
) -> None:
    first = seed_of(guest)
    record(guest, replace(guest.instance(), ssh_keys=()))
    guest.use_port("vendor_data", VendorDataFile(tmp_path / "gone"))

    assert guest.ask("instance.reboot", "reboot", instance="web").phase is Phase.SUCCEEDED

    assert seed_of(guest) == first
    domain = guest.hosts[H1].ports.hypervisor.read_domain(guest.instance().id)
    assert domain is not None
    assert domain.power_state is PowerState.RUNNING


def test_a_build_does_not_go_on_without_the_operators_words(fleet: Fleet, tmp_path: Path) -> None:
    fleet.use_port("vendor_data", VendorDataFile(tmp_path / "gone"))

    ended = fleet.ask("instance.build", "build", **FIELDS)

    assert (ended.phase, ended.failure and ended.failure.step) == (Phase.FAILED, "fetch_image")
    assert "TASKVISOR_VENDOR_DATA_FILE" in str(ended.failure and ended.failure.message)


def test_a_guest_is_off_while_its_seed_is_made_anew(guest: Fleet) -> None:
    host = guest.hosts[H1]
    seen: list[PowerState] = []

    def look(name: str, moment: Moment) -> None:
        if name == "disks.ensure_seed" and moment is Moment.BEFORE:
            domain = host.ports.hypervisor.read_domain(guest.instance().id)
            assert domain is not None
            seen.append(domain.power_state)

    guest.use_port("disks", watched(host.ports.disks, "disks", look))
    guest.ask("instance.reboot", "reboot", instance="web", type="hard")

    assert seen == [PowerState.SHUTDOWN]
