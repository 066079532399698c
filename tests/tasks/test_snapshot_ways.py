"""The ways of instance.snapshot: cold with the memory saved, quiesced or not, and what its image is and bears."""

from dataclasses import replace

import pytest

from tasks.snapshot_image import inherited
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.operation import Operation
from taskvisor.model.records import Image
from taskvisor.model.snapshot import Compression, SnapshotEncoding
from taskvisor.model.states import ImageFormat, Phase, PowerState, TaskState, VmState
from taskvisor.state.codec import encode
from tests.support.fleet import KEYS, Fleet
from tests.support.records import instance
from tests.support.spies import Moment
from tests.support.world import read_hosts
from tests.tasks.doors import do_during

H1 = HostName("h1")
NEEDS_QUIESCE = {"os_require_quiesce": "yes"}
NO_AGENT = {"hw_qemu_guest_agent": "no"}


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running."""
    fleet.build()
    return fleet


def snapshot(fleet: Fleet, **fields: object) -> Operation:
    return fleet.ask("instance.snapshot", "snap", instance="web", image="gold", **fields)


def gold(fleet: Fleet) -> Image:
    image = fleet.store.catalog.read_image("gold")
    assert image is not None
    return image


def power(fleet: Fleet) -> PowerState:
    domain = fleet.hosts[H1].ports.hypervisor.read_domain(fleet.instance().id)
    assert domain is not None
    return domain.power_state


def way(operation: Operation) -> tuple[object, ...]:
    assert operation.result is not None
    said = operation.result["snapshot"]
    return said["method"], said["quiesced"], said["why_not_quiesced"]


# Cold


@pytest.mark.parametrize("state", [PowerState.RUNNING, PowerState.PAUSED])
def test_a_cold_copy_of_a_guest_is_made_with_nothing_running_and_it_is_then_as_it_was(
    guest: Fleet, state: PowerState
) -> None:
    guest.hosts[H1].outsider.ensure_power_state(guest.instance().id, state)
    during: list[PowerState] = []
    do_during(guest, "disks.flatten", lambda: during.append(power(guest)))

    snapped = snapshot(guest, method="cold")

    assert (snapped.phase, during, power(guest)) == (Phase.SUCCEEDED, [PowerState.SHUTDOWN], state)
    assert (snapped.facts["suspend_guest"], way(snapped)) == (
        {"suspended": True},
        ("cold", False, "the guest was not running"),
    )
    assert guest.instance().vm_state is VmState.ACTIVE
    assert guest.hosts[H1].outsider.list_held() == ()


def test_a_cold_copy_of_a_guest_that_is_off_leaves_it_off(guest: Fleet) -> None:
    guest.ask("instance.stop", "stop", instance="web")

    snapped = snapshot(guest, method="cold")

    assert (snapped.phase, snapped.facts["suspend_guest"]) == (Phase.SUCCEEDED, {"suspended": False})
    assert power(guest) is PowerState.SHUTDOWN


def test_a_live_copy_of_a_guest_that_is_off_is_refused_in_words(guest: Fleet) -> None:
    guest.ask("instance.stop", "stop", instance="web")

    refused = snapshot(guest, method="live")

    assert refused.failure is not None
    assert refused.failure.message == "cannot copy web live: it is off; start it, or leave out the method"
    assert guest.store.catalog.read_image("gold") is None


def test_memory_that_somebody_else_saved_is_left_where_it_is(guest: Fleet) -> None:
    outsider = guest.hosts[H1].outsider
    outsider.ensure_memory_saved(guest.instance().id)
    before = outsider.list_held()

    snapped = snapshot(guest, method="cold")

    assert (snapped.phase, snapped.facts["suspend_guest"]) == (Phase.SUCCEEDED, {"suspended": False})
    assert (outsider.list_held(), power(guest)) == (before, PowerState.SHUTDOWN)


def test_a_guest_that_somebody_starts_under_a_cold_copy_makes_no_image(guest: Fleet) -> None:
    instance_id = guest.instance().id
    do_during(guest, "disks.flatten", lambda: guest.hosts[H1].ports.hypervisor.ensure_running(instance_id))

    refused = snapshot(guest, method="cold")

    assert refused.failure is not None
    assert "somebody started it meanwhile" in refused.failure.message
    assert (power(guest), guest.store.catalog.read_image("gold")) == (PowerState.RUNNING, None)


def test_a_guest_is_said_to_wait_for_its_snapshot_before_it_is_copied(guest: Fleet) -> None:
    said: dict[str, TaskState | None] = {}

    def note(name: str, moment: Moment) -> None:
        if moment is Moment.BEFORE and name in (
            "hypervisor.ensure_suspended_to_disk",
            "disks.flatten",
            "disks.publish",
        ):
            said[name] = guest.instance().task_state

    guest.watch(note)
    snapshot(guest, method="cold")

    assert list(said.values()) == [
        TaskState.IMAGE_SNAPSHOT_PENDING,
        TaskState.IMAGE_PENDING_UPLOAD,
        TaskState.IMAGE_UPLOADING,
    ]


# Quiesced


def test_a_guest_with_an_agent_is_quiesced_and_thawed(guest: Fleet) -> None:
    snapped = snapshot(guest)

    assert way(snapped) == ("live", True, None)
    assert guest.hosts[H1].outsider.list_held() == ()


def test_quiescing_can_be_left_out(guest: Fleet) -> None:
    assert way(snapshot(guest, quiesce="never")) == ("live", False, "it was not asked for")


@pytest.mark.parametrize(("quiesce", "phase"), [("auto", Phase.SUCCEEDED), ("required", Phase.FAILED)])
def test_a_guest_without_an_agent_is_copied_as_after_a_power_cut_unless_more_is_required(
    fleet: Fleet, quiesce: str, phase: Phase
) -> None:
    fleet.build(image_properties=NO_AGENT)

    snapped = snapshot(fleet, quiesce=quiesce)

    assert snapped.phase is phase
    if phase is Phase.SUCCEEDED:
        assert way(snapped) == ("live", False, "its agent does not answer")
    else:
        assert snapped.failure is not None
        assert snapped.failure.code == "Refused"
        assert "cannot quiesce" in snapped.failure.message


def test_an_image_may_require_that_its_guests_are_quiesced(fleet: Fleet) -> None:
    fleet.build(image_properties=NEEDS_QUIESCE)
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.PAUSED)

    refused = snapshot(fleet)
    fleet.hosts[H1].outsider.ensure_power_state(fleet.instance().id, PowerState.RUNNING)
    taken = fleet.ask("instance.snapshot", "snap-2", instance="web", image="gold")

    assert refused.failure is not None
    assert "cannot quiesce" in refused.failure.message
    assert way(taken) == ("live", True, None)


@pytest.mark.parametrize("fields", [{"quiesce": "never"}, {"method": "cold"}])
def test_what_such_an_image_forbids_is_refused_before_anything_is_touched(fleet: Fleet, fields: dict[str, str]) -> None:
    fleet.build(image_properties=NEEDS_QUIESCE)
    before = read_hosts(fleet)

    refused = snapshot(fleet, **fields)

    assert refused.failure is not None
    assert (refused.failure.step, refused.failure.code) == ("suspend_guest", "Refused")
    assert "its image says os_require_quiesce" in refused.failure.message
    assert read_hosts(fleet) == before


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"method": "warm"}, "method: 'warm': "),
        ({"quiesce": True}, "quiesce: True: "),
        ({"format": "vmdk"}, "format: 'vmdk': must be qcow2 or raw"),
        ({"compression": "lz4"}, "compression: 'lz4': "),
        ({"format": "raw", "compression": "zlib"}, "a raw image has none; leave out zlib, or ask for qcow2"),
        ({"method": "cold", "quiesce": "required"}, "only a live copy is quiesced"),
    ],
)
def test_a_snapshot_that_cannot_be_is_refused_at_the_door(guest: Fleet, fields: dict[str, object], rule: str) -> None:
    with pytest.raises(Refused) as refusal:
        guest.answer("instance.snapshot", "snap", {"instance": "web", "image": "gold", **fields})

    assert rule in str(refusal.value)


# The image


def test_the_image_is_of_the_format_asked_and_a_guest_can_be_built_from_it(guest: Fleet) -> None:
    snapshot(guest, format="raw")

    assert (gold(guest).source.format, gold(guest).source.url[-4:]) == (ImageFormat.RAW, ".raw")
    assert guest.build("clone", image="gold").phase is Phase.SUCCEEDED


def test_where_nothing_is_asked_the_hosts_choice_holds(guest: Fleet) -> None:
    raw = SnapshotEncoding(format=ImageFormat.RAW, compression=Compression.NONE)
    there = guest.hosts[H1]
    there.ports = replace(there.ports, limits=replace(there.ports.limits, snapshot_encoding=raw))
    guest.restart()

    snapshot(guest)
    assert gold(guest).source.format is ImageFormat.RAW
    compressed = guest.ask("instance.snapshot", "snap-2", instance="web", image="silver", compression="zstd")

    assert compressed.result is not None
    assert compressed.result["snapshot"]["format"] == "qcow2"


def test_a_guest_built_from_a_snapshot_is_like_the_first(fleet: Fleet) -> None:
    fleet.build(image_properties={"hw_disk_bus": "scsi", "os_type": "linux"})
    snapshot(fleet)
    fleet.build("clone", image="gold")

    first, clone, image = fleet.instance(), fleet.instance("clone"), gold(fleet)
    assert (image.base_image, image.instance_id) == (first.image_name, first.id)
    assert (image.min_disk_gib, image.virtual_bytes) == (1, 1 << 30)
    assert image.properties == {"hw_disk_bus": "scsi", "os_type": "linux", "hw_machine_type": first.machine}
    assert (clone.image_properties, clone.machine) == (image.properties, first.machine)


def test_the_memory_that_an_image_needs_a_snapshot_of_its_guest_needs_too(guest: Fleet) -> None:
    snapshot(guest)
    guest.client.set(KEYS.image("gold"), encode(replace(gold(guest), min_memory_mib=32)))
    guest.build("clone", image="gold")

    guest.ask("instance.snapshot", "snap-2", instance="clone", image="silver")

    silver = guest.store.catalog.read_image("silver")
    assert silver is not None
    assert (silver.min_memory_mib, silver.base_image) == (32, "gold")


def test_what_is_of_the_old_images_bytes_is_not_inherited() -> None:
    properties = {"os_type": "linux", "img_signature": "x", "img_signature_key_type": "y", "cache_in_nova": "z"}

    assert inherited(instance(image_properties=properties)) == {"os_type": "linux"}
    assert inherited(instance(image_properties={"hw_machine_type": "q35"}, machine="pc-q35-8.2")) == {
        "hw_machine_type": "q35"
    }
