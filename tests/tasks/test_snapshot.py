"""instance.snapshot end to end: live and cold, its name, and what builds are made from it."""

import pytest

from taskvisor.model.errors import Contradiction, Refused
from taskvisor.model.ids import HostName
from taskvisor.model.states import Phase, PowerState, VmState
from tests.support.fleet import Fleet
from tests.support.spies import Moment
from tests.support.world import read_held, read_hosts
from tests.tasks.doors import do_during

H1 = HostName("h1")
QUIESCED = {"live": True, "quiesced": True, "why_not": None}
OFF = {"live": False, "quiesced": False, "why_not": "the guest was not running"}


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running."""
    fleet.build()
    return fleet


@pytest.mark.parametrize("live", [True, False])
def test_an_image_is_registered_and_the_guest_is_as_it_was(guest: Fleet, *, live: bool) -> None:
    if not live:
        guest.ask("instance.stop", "stop", instance="web")
    before = guest.instance()

    snapped = guest.ask("instance.snapshot", "snap", instance="web", image="gold")

    image = guest.store.catalog.read_image("gold")
    assert image is not None
    assert (snapped.phase, snapped.facts["copy_disk"]) == (Phase.SUCCEEDED, QUIESCED if live else OFF)
    assert (image.host, image.instance_id, image.virtual_bytes) == (H1, before.id, 1 << 30)
    assert snapped.result is not None
    assert snapped.result["snapshot"]["name"] == "gold"
    assert guest.instance() == before


def test_a_guest_is_built_from_a_snapshot_where_it_lies(guest: Fleet) -> None:
    guest.ask("instance.snapshot", "snap", instance="web", image="gold")

    built = guest.build("clone", image="gold")

    assert (built.phase, guest.instance("clone").image_name) == (Phase.SUCCEEDED, "gold")
    assert guest.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED
    assert guest.build("clone2", image="gold").phase is Phase.SUCCEEDED


def test_a_snapshot_larger_than_the_flavor_is_refused_at_the_door(guest: Fleet) -> None:
    guest.build("big", image="simulated://big?virtual_gib=3", flavor="c1-m64-d3")
    guest.ask("instance.snapshot", "snap", instance="big", image="gold")

    with pytest.raises(Refused) as refusal:
        guest.build("clone", image="gold", flavor="c1-m64-d2")

    assert str(refusal.value) == ("flavor: c1-m64-d2 has a disk of 2 GiB, image 'gold' needs 3; choose a larger flavor")
    assert guest.build("clone", image="gold", flavor="c1-m64-d0").phase is Phase.SUCCEEDED


def test_another_checksum_than_the_images_own_is_refused(guest: Fleet) -> None:
    guest.ask("instance.snapshot", "snap", instance="web", image="gold")

    with pytest.raises(Refused, match=r"image_sha256: image 'gold' has [0-9a-f]{64}, not 0{64}"):
        guest.build("clone", image="gold", image_sha256="0" * 64)


def test_a_name_is_reserved_while_its_snapshot_is_made(guest: Fleet) -> None:
    guest.build("db")
    guest.begin("instance.snapshot", "snap", instance="web", image="gold")

    with pytest.raises(Refused, match="image: 'gold' is the name of image snap"):
        guest.answer("instance.snapshot", "snap-2", {"instance": "db", "image": "gold"})
    with pytest.raises(Refused, match="image: 'gold': no image of that name is registered"):
        guest.build("clone", image="gold")
    guest.post.deliver_all()

    assert guest.build("clone", image="gold").phase is Phase.SUCCEEDED


def fail(guest: Fleet) -> None:
    def refuse() -> None:
        raise Refused("no room for it")

    do_during(guest, "disks.publish", refuse)
    guest.ask("instance.snapshot", "snap", instance="web", image="gold")


def cancel(guest: Fleet) -> None:
    do_during(guest, "hypervisor.copy_disk", lambda: guest.door.cancel("snap"))
    guest.ask("instance.snapshot", "snap", instance="web", image="gold")


@pytest.mark.parametrize(("end_it", "phase"), [(fail, Phase.FAILED), (cancel, Phase.CANCELLED)])
def test_a_snapshot_that_fails_leaves_no_file_and_no_name(guest: Fleet, end_it: object, phase: Phase) -> None:
    before = read_hosts(guest)

    end_it(guest)  # type: ignore[operator]

    assert guest.read("snap").phase is phase
    assert read_hosts(guest) == before
    assert "images" not in read_held(guest)
    record = guest.instance()
    assert (record.vm_state, record.task_state) == (VmState.ACTIVE, None)
    assert guest.ask("instance.snapshot", "snap-2", instance="web", image="gold").phase is Phase.SUCCEEDED


def test_a_cold_copy_of_a_guest_that_was_started_meanwhile_is_made_again_live(guest: Fleet) -> None:
    guest.ask("instance.stop", "stop", instance="web")
    instance_id = guest.instance().id
    do_during(guest, "disks.flatten", lambda: guest.hosts[H1].ports.hypervisor.ensure_running(instance_id))

    snapped = guest.ask("instance.snapshot", "snap", instance="web", image="gold")

    assert (snapped.phase, snapped.facts["copy_disk"]) == (Phase.SUCCEEDED, QUIESCED)
    assert [entry.outcome for entry in snapped.timeline] == ["done", "Retryable", "done", "done", "done"]


@pytest.mark.parametrize("state", [PowerState.PAUSED, PowerState.SUSPENDED])
def test_a_guest_that_stands_still_is_copied_live_and_not_quiesced(guest: Fleet, state: PowerState) -> None:
    guest.hosts[H1].outsider.ensure_power_state(guest.instance().id, state)

    snapped = guest.ask("instance.snapshot", "snap", instance="web", image="gold")

    assert snapped.facts["copy_disk"] == {"live": True, "quiesced": False, "why_not": "the guest is paused"}


@pytest.fixture
def stuck(guest: Fleet) -> Fleet:
    """The fleet, with a snapshot that is STUCK: its copy is made and cannot be published, nor taken back."""
    guest.use_port("disks", Baffled(guest.hosts[H1].ports.disks))
    assert guest.ask("instance.snapshot", "snap", instance="web", image="gold").phase is Phase.STUCK
    guest.restart()
    return guest


class Baffled:
    """Disks that find something of somebody else's where the image is to be published."""

    def __init__(self, disks: object) -> None:
        self._disks = disks

    def __getattr__(self, verb: str) -> object:
        if verb == "publish":
            return self._publish
        return getattr(self._disks, verb)

    def _publish(self, *_: object) -> None:
        raise Contradiction("the image's place is taken by a directory")


def test_a_delete_takes_a_stuck_snapshot_back_before_it_deletes(stuck: Fleet) -> None:
    assert stuck.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED

    assert stuck.read("snap").phase is Phase.FAILED
    assert read_held(stuck) == {}
    assert read_hosts(stuck)["h1"] == {"domains": [], "links": (), "files": []}


def test_a_snapshot_that_cannot_be_taken_back_gives_its_name_up_to_a_delete(stuck: Fleet) -> None:
    def fail(name: str, moment: Moment) -> None:
        if name == "disks.ensure_unpublished" and moment is Moment.BEFORE:
            raise Contradiction("the image's place is taken by a directory")

    stuck.watch(fail)

    assert stuck.ask("instance.delete", "del", instance="web").phase is Phase.SUCCEEDED

    assert stuck.read("snap").phase is Phase.CANCELLED
    assert read_held(stuck) == {}
