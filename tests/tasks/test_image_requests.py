"""Images that are registered and deleted by request."""

from dataclasses import replace
from typing import Any

import pytest

from taskvisor.model.errors import Busy, Conflicting, IdInUse, Refused, StoreConflict
from taskvisor.model.ids import OperationId, image_id_for
from taskvisor.model.records import Image, ImageSource
from taskvisor.model.states import ImageFormat, Phase
from taskvisor.model.view import image_view
from tests.support.fleet import SMALL, Fleet
from tests.support.images import ImageDesk
from tests.support.world import read_everything, read_held

SOURCE = "https://images.example/debian-12.qcow2"
PROPERTIES = {"hw_disk_bus": "scsi", "os_type": "linux"}


@pytest.fixture
def desk(fleet: Fleet) -> ImageDesk:
    return ImageDesk(fleet)


def image(fleet: Fleet, name: str = "debian") -> Image:
    found = fleet.store.catalog.read_image(name)
    assert found is not None
    return found


def test_a_registered_image_is_what_was_asked_and_its_caller_is_told(fleet: Fleet, desk: ImageDesk) -> None:
    told = desk.register(
        "debian", SOURCE, sha256="ab" * 32, format="qcow2", min_disk_gib=2, min_memory_mib=512, properties=PROPERTIES
    )

    assert image(fleet) == Image(
        id=image_id_for(OperationId("reg")),
        name="debian",
        source=ImageSource(url=SOURCE, sha256="ab" * 32, format=ImageFormat.QCOW2),
        size_bytes=0,
        virtual_bytes=0,
        created_at=fleet.clock.now(),
        min_disk_gib=2,
        min_memory_mib=512,
        properties=PROPERTIES,
    )
    assert told == image_view(image(fleet))
    assert fleet.store.catalog.list_images() == (image(fleet),)


def test_a_path_is_kept_as_a_url(fleet: Fleet, desk: ImageDesk) -> None:
    desk.register("debian", "/srv/images/debian 12.qcow2")

    assert image(fleet).source.url == "file:///srv/images/debian%2012.qcow2"


def test_the_same_request_twice_is_one_image_and_one_answer(fleet: Fleet, desk: ImageDesk) -> None:
    first = desk.register("debian", SOURCE)
    before = read_held(fleet)
    fleet.clock.sleep(5.0)

    assert desk.register("debian", SOURCE) == first
    assert read_held(fleet) == before


def test_the_same_image_under_another_id_is_the_same_image(fleet: Fleet, desk: ImageDesk) -> None:
    first = desk.register("debian", SOURCE, properties=PROPERTIES)

    again = desk.register("debian", SOURCE, properties=PROPERTIES, request_id="another")

    assert again == {**first, "already": True}


@pytest.mark.parametrize(
    ("fields", "differing"),
    [
        ({"source": "https://images.example/other.qcow2"}, "source"),
        ({"sha256": "ab" * 32}, "sha256"),
        ({"format": "raw"}, "format"),
        ({"min_disk_gib": 1, "min_memory_mib": 1}, "min_disk_gib, min_memory_mib"),
        ({"properties": PROPERTIES}, "properties"),
    ],
)
def test_another_image_of_that_name_is_refused_with_what_differs(
    fleet: Fleet, desk: ImageDesk, fields: dict[str, Any], differing: str
) -> None:
    desk.register("debian", SOURCE)
    before = read_everything(fleet.client)

    with pytest.raises(Refused) as refusal:
        desk.register(**{"name": "debian", "source": SOURCE, "request_id": "other", **fields})

    assert str(refusal.value) == (
        f"name: 'debian' is the name of another image (of {SOURCE}; it differs in {differing}); choose another, or delete"
        " that one first"
    )
    assert read_everything(fleet.client) == before


def test_what_another_is_of_is_told_without_its_secrets(desk: ImageDesk) -> None:
    desk.register("debian", "https://me:secret@images.example/debian.qcow2?sig=secret")

    with pytest.raises(Refused) as refusal:
        desk.register("debian", SOURCE, request_id="other")

    assert "secret" not in str(refusal.value)


def test_a_name_that_a_snapshot_will_have_is_refused(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web")
    fleet.begin("instance.snapshot", "snap", instance="web", image="gold")

    with pytest.raises(Refused, match="name: 'gold' is kept for the snapshot that operation snap takes"):
        desk.register("gold", SOURCE)
    with pytest.raises(Refused, match="name: 'gold' is kept for the snapshot that operation snap takes"):
        desk.delete("gold")


def test_a_snapshot_under_the_name_of_a_registered_image_is_refused(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web")
    desk.register("gold", SOURCE)

    with pytest.raises(Refused, match=f"image: 'gold' is the name of image {image_id_for(OperationId('reg'))}"):
        fleet.begin("instance.snapshot", "snap", instance="web", image="gold")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "no/name"}, "name: 'no/name': must be 1 to 63 letters, digits, dots or hyphens"),
        ({"source": "debian"}, "source: 'debian': must be an absolute path or a URL"),
        ({"source": ""}, "source: '': string should have at least 1 character"),
        (
            {"source": "ftp://images.example/x"},
            "source: 'ftp://images.example/x': scheme 'ftp' is not known; use a path",
        ),
        ({"source": "/srv/../etc/shadow"}, "source: '/srv/../etc/shadow': must be an absolute path without '..'"),
        ({"source": "s3://bucket"}, "source: 's3://bucket': must name a bucket and an object, as s3://bucket/path"),
        ({"sha256": "AB" * 32}, "sha256: '(AB)+': must be a SHA-256: 64 hexadecimal digits in lower case"),
        ({"sha256": "ab"}, "sha256: 'ab': must be a SHA-256"),
        ({"format": "qed"}, "format: 'qed': input should be 'qcow2', 'raw'"),
        ({"min_disk_gib": -1}, "min_disk_gib: -1: input should be greater than or equal to 0"),
        ({"min_memory_mib": "1"}, "min_memory_mib: '1': input should be a valid integer"),
        (
            {"properties": {"hw_disk_bux": "scsi"}},
            "properties: the image says 'hw_disk_bux', .* nearest one is hw_disk_bus",
        ),
        ({"properties": {"hw_disk_bus": "scsy"}}, "properties: hw_disk_bus='scsy': must be "),
        ({"visibility": "public"}, "visibility: unknown field; remove it or check its spelling"),
    ],
)
def test_what_makes_no_sense_is_refused_with_field_value_and_rule(
    fleet: Fleet, desk: ImageDesk, fields: dict[str, Any], reason: str
) -> None:
    before = read_everything(fleet.client)

    with pytest.raises(Refused, match=f"^{reason}"):
        desk.register(**{"name": "debian", "source": SOURCE, **fields})

    assert read_everything(fleet.client) == before


def test_a_property_that_only_some_flavors_allow_may_be_registered(desk: ImageDesk) -> None:
    """hw_tpm_model needs a version, which the flavor may say; a build says whether they go together."""
    assert desk.register("debian", SOURCE, properties={"hw_tpm_model": "tpm-crb"})["state"] == "ready"


def test_the_id_of_an_operation_is_not_that_of_a_request_for_an_image(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web", "build-web")

    with pytest.raises(IdInUse, match="build-web is that of another request"):
        desk.register("debian", SOURCE, request_id="build-web")
    with pytest.raises(IdInUse, match="build-web is that of another request"):
        desk.delete("debian", request_id="build-web")
    with pytest.raises(Refused, match="task id: 'no id': must be"):
        desk.register("debian", SOURCE, request_id="no id")


def test_a_twin_that_was_quicker_is_found_on_the_second_look(fleet: Fleet, desk: ImageDesk) -> None:
    """Another request has the name between the look and the write."""
    look, quicker = fleet.store.images.read_name, [lambda: desk.register("debian", SOURCE, request_id="twin")]

    class Meanwhile:
        def __getattr__(self, name: str) -> Any:
            return getattr(fleet.store.images, name)

        def read_name(self, name: str) -> Any:
            seen = look(name)
            if quicker:
                quicker.pop()()
            return seen

    door = replace(desk.door, store=replace(fleet.store, images=Meanwhile()))  # type: ignore[arg-type]
    answer = door.register(OperationId("reg"), {"name": "debian", "source": SOURCE})

    assert getattr(answer, "result", {}).get("already") is True
    assert image(fleet).id == image_id_for(OperationId("twin"))


def test_records_that_move_all_the_time_are_a_conflict(fleet: Fleet, desk: ImageDesk) -> None:
    class Moving:
        def __getattr__(self, name: str) -> Any:
            return getattr(fleet.store.images, name)

        def register(self, *_: object) -> None:
            raise StoreConflict("it moved")

    door = replace(desk.door, store=replace(fleet.store, images=Moving()))  # type: ignore[arg-type]

    with pytest.raises(Conflicting, match="image debian: the records moved 10 times"):
        door.register(OperationId("reg"), {"name": "debian", "source": SOURCE})


def test_a_guest_is_built_from_a_registered_image(fleet: Fleet, desk: ImageDesk) -> None:
    desk.register("debian", "simulated://debian?virtual_gib=2", properties=PROPERTIES, min_memory_mib=64)

    built = fleet.build("web", image="debian", flavor={"vcpus": 1, "memory_mib": 64, "disk_gib": 2})

    assert built.phase is Phase.SUCCEEDED
    instance = fleet.instance()
    assert (instance.image_name, instance.image) == ("debian", image(fleet).source)
    assert instance.image_properties == PROPERTIES


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"min_disk_gib": 2}, "flavor: c1-m64-d1 has a disk of 1 GiB, image 'debian' needs 2; choose a larger flavor"),
        (
            {"min_memory_mib": 65},
            "flavor: c1-m64-d1 has 64 MiB of memory, image 'debian' needs 65; choose a larger flavor",
        ),
        (
            {"properties": {"hw_tpm_model": "tpm-crb"}},
            "hw:tpm_model=tpm-crb: needs hw:tpm_version; set it, or leave both out",
        ),
    ],
)
def test_a_flavor_that_a_registered_image_does_not_fit_into_is_refused(
    fleet: Fleet, desk: ImageDesk, fields: dict[str, Any], reason: str
) -> None:
    desk.register("debian", "simulated://debian", **fields)

    with pytest.raises(Refused) as refusal:
        fleet.begin_build("web", image="debian", flavor=SMALL)

    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"image_sha256": "0" * 64},
            f"image_sha256: image 'debian' has no declared SHA-256, not {'0' * 64}; leave it out",
        ),
        ({"image_format": "raw"}, "image_format: image 'debian' is of no declared format, not raw; leave it out"),
        (
            {"image_properties": {"os_type": "linux"}},
            "image_properties: image 'debian' is registered with its own; leave them out",
        ),
    ],
)
def test_what_a_build_says_of_a_registered_image_must_be_registered(
    fleet: Fleet, desk: ImageDesk, fields: dict[str, Any], reason: str
) -> None:
    desk.register("debian", "simulated://debian")

    with pytest.raises(Refused) as refusal:
        fleet.begin_build("web", image="debian", **fields)

    assert str(refusal.value) == reason


def test_a_file_that_is_not_what_was_registered_ends_the_build_in_words(
    fleet: Fleet, desk: ImageDesk, tmp_path: Any
) -> None:
    file = tmp_path / "debian.qcow2"
    file.write_bytes(b"QFI\xfb" + bytes(500))
    desk.register("debian", str(file), format="vmdk")

    built = fleet.build("web", image="debian")

    assert (built.phase, built.failure and built.failure.step) == (Phase.FAILED, "fetch_image")


def test_an_image_without_a_host_goes_at_once_with_its_name(fleet: Fleet, desk: ImageDesk) -> None:
    made = desk.register("debian", SOURCE)

    assert desk.delete("debian") == {"id": made["id"], "name": "debian", "state": "deleted"}
    assert (fleet.store.catalog.read_image("debian"), desk.sent) == (None, [])
    assert desk.register("debian", "/srv/other.qcow2", request_id="next")["state"] == "ready"


def test_an_image_is_deleted_by_its_id_too(fleet: Fleet, desk: ImageDesk) -> None:
    made = desk.register("debian", SOURCE)
    desk.register("other", SOURCE, request_id="other")

    assert desk.delete(made["id"])["name"] == "debian"
    assert [one.name for one in fleet.store.catalog.list_images()] == ["other"]


def test_an_image_that_is_not_there_is_deleted_already(desk: ImageDesk) -> None:
    assert desk.delete("debian") == {"id": "debian", "name": "debian", "state": "deleted", "already": True}


def test_guests_of_a_deleted_image_run_on(fleet: Fleet, desk: ImageDesk) -> None:
    desk.register("debian", "simulated://debian")
    fleet.build("web", image="debian")

    desk.delete("debian")

    assert fleet.ask("instance.reboot", "hard", instance="web", type="hard").phase is Phase.SUCCEEDED


def test_nothing_is_built_from_a_snapshot_that_is_going(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web")
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")

    desk.delete("gold")

    assert image_view(image(fleet, "gold"))["state"] == "deleting"
    with pytest.raises(Refused, match="image: 'gold' is being deleted, so nothing is built from it any more"):
        fleet.begin_build("next", image="gold")
    with pytest.raises(Refused, match="name: 'gold' is the name of an image that is being deleted, until host h1"):
        desk.register("gold", SOURCE)


def test_who_deletes_what_is_going_waits_for_its_end(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web")
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")
    desk.delete("gold", request_id="first")

    with pytest.raises(Busy, match=r"image 'gold' is being deleted: .* its file goes when host h1 removes it"):
        desk.delete("gold", request_id="second")
    desk.deliver_all()

    assert desk.delete("gold", request_id="second")["already"] is True


def test_a_build_that_came_before_the_delete_ends_in_words(fleet: Fleet, desk: ImageDesk) -> None:
    fleet.build("web")
    fleet.ask("instance.snapshot", "snap", instance="web", image="gold")
    fleet.begin_build("late", image="gold")
    desk.delete("gold")
    desk.deliver_all()

    fleet.post.deliver_all()

    late = fleet.read("build-late")
    assert (late.phase, late.failure and late.failure.step) == (Phase.FAILED, "fetch_image")
    assert late.failure is not None
    assert "image" in late.failure.message
    assert fleet.store.catalog.find_instance("late") is None


def test_a_build_that_came_before_the_delete_of_a_registered_image_works(fleet: Fleet, desk: ImageDesk) -> None:
    desk.register("debian", "simulated://debian")
    fleet.begin_build("late", image="debian")
    desk.delete("debian")

    fleet.post.deliver_all()

    assert fleet.read("build-late").phase is Phase.SUCCEEDED
