"""What Volumes promise (taskvisor/flow/ports.py)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from taskvisor.flow.ports import Volumes
from taskvisor.model.errors import Refused
from taskvisor.model.ids import InstanceId
from taskvisor.model.observed import ConnectedVolume
from taskvisor.model.plan import DiskBus
from taskvisor.model.tuning import VolumeTuning
from taskvisor.model.volume import VolumeAttachment
from tests.contract.plans import instance_id
from tests.contract.processes import repeat_at_once
from virt.simulated import SimulatedVolumes
from virt.volumes import open_host_volumes

ONE, OTHER = instance_id(1), instance_id(2)
Opening = Callable[[], Volumes]


@pytest.fixture(params=["simulated", "real"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Opens the port, as each process of a host does. The real one needs no daemon: the volumes are files."""
    if request.param == "simulated":
        return partial(SimulatedVolumes, tmp_path / "host")
    return partial(open_host_volumes, tmp_path / "host", (tmp_path.resolve().as_uri(),))


@pytest.fixture
def volume(tmp_path: Path) -> VolumeAttachment:
    path = tmp_path.resolve() / "v.raw"
    path.touch()
    return VolumeAttachment(source=path.as_uri(), serial="v1", device="vdc", bus=DiskBus.VIRTIO)


def owners(port: Volumes) -> list[InstanceId]:
    return [one.instance_id for one in port.list_connected()]


def test_a_volume_is_connected_once_however_often_it_is_asked(opening: Opening, volume: VolumeAttachment) -> None:
    for _ in range(2):
        opening().ensure_connected(volume, ONE)
    assert opening().list_connected() == (ConnectedVolume(source=volume.source, instance_id=ONE),)
    assert Path(opening().plan_for(volume).path).exists()


def test_a_volume_is_disconnected_once_however_often_it_is_asked(opening: Opening, volume: VolumeAttachment) -> None:
    opening().ensure_connected(volume, ONE)
    for _ in range(2):
        opening().ensure_disconnected(volume.source, ONE)
    assert opening().list_connected() == ()


def test_what_qemu_opens_is_known_before_it_is_there(opening: Opening, volume: VolumeAttachment) -> None:
    before = opening().plan_for(volume)
    opening().ensure_connected(volume, ONE)
    assert opening().plan_for(volume) == before
    assert (before.serial, before.device, before.bus, before.tuning) == ("v1", "vdc", DiskBus.VIRTIO, VolumeTuning())


def test_another_instance_is_refused_and_the_first_keeps_it(opening: Opening, volume: VolumeAttachment) -> None:
    port = opening()
    port.ensure_connected(volume, ONE)
    with pytest.raises(Refused, match=ONE):
        port.ensure_connected(volume, OTHER)
    port.ensure_disconnected(volume.source, OTHER)
    assert owners(port) == [ONE]
    assert Path(port.plan_for(volume).path).exists()


def test_the_last_of_those_who_share_it_lets_go(opening: Opening, volume: VolumeAttachment) -> None:
    port = opening()
    shared = VolumeAttachment(source=volume.source, serial="v1", tuning=VolumeTuning(shareable=True))
    port.ensure_connected(shared, ONE)
    port.ensure_connected(shared, OTHER)
    port.ensure_disconnected(shared.source, ONE)
    assert owners(port) == [OTHER]
    assert Path(port.plan_for(shared).path).exists()


def test_processes_that_connect_and_disconnect_at_once_leave_nothing(
    opening: Opening, volume: VolumeAttachment
) -> None:
    shared = VolumeAttachment(source=volume.source, serial="v1", tuning=VolumeTuning(shareable=True))
    calls = [
        [("ensure_connected", (shared, owner)), ("ensure_disconnected", (shared.source, owner))] * 5
        for owner in (ONE, OTHER)
    ]
    repeat_at_once(opening, calls, passed_over=())
    assert opening().list_connected() == ()
