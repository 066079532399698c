"""Where a guest's disks lie is decided once, by the host that it is built on, and kept whatever the host is told later."""

from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.disk_backend import QCOW2_FILES, BackendKind, DiskBackend
from taskvisor.model.ids import HostName
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.states import Phase, PowerState
from taskvisor.state.codec import encode
from tests.support.fleet import KEYS, SMALL, Fleet
from tests.support.world import read_hosts
from virt.readback import instance_from_xml

RAW = DiskBackend(kind=BackendKind.RAW)
LVM = DiskBackend(kind=BackendKind.LVM, pool="guests")
H1 = HostName("h1")


def choose(fleet: Fleet, backend: DiskBackend) -> None:
    """The host's operator wants this of guests to come."""
    there = fleet.hosts[H1]
    there.ports = replace(there.ports, choices=OperatorChoices(disk_backend=backend))
    fleet.restart()
    fleet.post.deliver_all()


def files_of(fleet: Fleet) -> set[str]:
    """What lies on the host, each by the last part of its path."""
    return {Path(name).name for name in read_hosts(fleet)[H1]["files"]}


def xml_of(fleet: Fleet, operation_id: str) -> str:
    return str(fleet.read(operation_id).facts["render_xml"]["xml"])


def test_a_guest_is_built_as_its_host_was_told(fleet: Fleet) -> None:
    choose(fleet, LVM)

    fleet.build("web", flavor={**SMALL, "swap_mib": 64, "ephemeral_gib": 1})

    guest = fleet.instance()
    names = {f"dev!guests!{guest.id}_{name}" for name in ("disk", "disk.swap", "disk.eph0")}
    assert names <= files_of(fleet)
    assert guest.disk_backend == LVM
    assert f'<source dev="/dev/guests/{guest.id}_disk"' in xml_of(fleet, "build-web")
    assert instance_from_xml(xml_of(fleet, "build-web"), PowerState.RUNNING).disk_backend == LVM


@pytest.mark.parametrize("later", [QCOW2_FILES, LVM, DiskBackend(kind=BackendKind.LVM, pool="new")])
def test_a_guest_keeps_what_it_was_built_with(fleet: Fleet, later: DiskBackend) -> None:
    choose(fleet, RAW)
    fleet.build("web")
    before = files_of(fleet)

    choose(fleet, later)
    assert fleet.ask("instance.reboot", "hard", instance="web", type="hard").phase is Phase.SUCCEEDED
    assert fleet.ask("instance.snapshot", "snap", instance="web", image="gold").phase is Phase.SUCCEEDED

    assert fleet.instance().disk_backend == RAW
    assert "/disk.raw" in xml_of(fleet, "hard")
    assert instance_from_xml(xml_of(fleet, "hard"), PowerState.RUNNING).disk_backend == RAW
    assert before <= files_of(fleet)


def test_a_build_goes_on_as_it_began(fleet: Fleet) -> None:
    choose(fleet, RAW)
    fleet.begin_build("web")
    fleet.post.deliver(fleet.post.chains[0])  # prepare_disk
    choose(fleet, LVM)

    assert fleet.read("build-web").phase is Phase.SUCCEEDED
    assert fleet.instance().disk_backend == RAW
    assert "disk.raw" in files_of(fleet)
    assert "/disk.raw" in xml_of(fleet, "build-web")


def test_a_guest_of_before_there_was_a_choice_has_qcow2_files(fleet: Fleet) -> None:
    fleet.build("web")
    guest = fleet.instance()
    fleet.client.set(KEYS.instance(guest.id), encode(replace(guest, disk_backend=None)))
    choose(fleet, RAW)

    fleet.ask("instance.reboot", "hard", instance="web", type="hard")

    assert f'/{guest.id}/disk"' in xml_of(fleet, "hard")


def test_a_guest_is_removed_from_where_it_was_built(fleet: Fleet) -> None:
    before = read_hosts(fleet)
    choose(fleet, LVM)
    fleet.build("web")
    choose(fleet, QCOW2_FILES)

    fleet.ask("instance.delete", "delete-web", instance="web")

    assert read_hosts(fleet) == before
