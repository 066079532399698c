"""Images from the command line: what is sent, what is told, and the exit code."""

from pathlib import Path

import pytest

from taskvisor.model.errors import Busy, Refused
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Deletion, ImageSource
from taskvisor.model.states import ImageFormat
from taskvisor.model.view import image_view
from tests.cli.book import Book
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import NOTHING, Asked, FakeWorker

GOING = Deletion(request_id=OperationId("del"), asked_at=1.0, sent_at=1.0, sendings=3, problem="read-only file system")


def told(asked: Asked) -> object:
    """As a worker that registers it, or deletes it."""
    name = asked.fields.get("name") or asked.fields["image"]
    return {"id": "i", "name": name, "host": None}


def test_registering_sends_all_that_was_typed(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.register"] = told
    words = ["image", "register", "debian", "https://images.example/debian.qcow2", "--sha256", "AB" * 32]
    words += ["--image-format", "qcow2", "--min-disk", "2", "--min-memory", "512"]
    words += ["--property", "hw_disk_bus=scsi", "--property", "os_type=linux", "--id", "reg-1"]

    result = cli(*words)

    assert (result.exit_code, result.stdout) == (0, "debian is registered\n"), result.stderr
    assert worker.asked[0] == Asked(
        task="image.register",
        operation_id="reg-1",
        fields={
            "name": "debian",
            "source": "https://images.example/debian.qcow2",
            "sha256": "ab" * 32,
            "format": "qcow2",
            "min_disk_gib": 2,
            "min_memory_mib": 512,
            "properties": {"hw_disk_bus": "scsi", "os_type": "linux"},
        },
    )


def test_a_relative_path_is_sent_as_the_hosts_will_read_it(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.register"] = told

    assert cli("image", "register", "debian", "./debian.qcow2").exit_code == 0

    assert worker.asked[0].fields == {"name": "debian", "source": str(Path.cwd() / "debian.qcow2")}


def test_an_image_that_is_registered_already_ends_with_3(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.register"] = lambda asked: {"name": asked.fields["name"], "already": True}

    result = cli("image", "register", "debian", "/srv/x")

    assert (result.exit_code, result.stdout) == (3, "debian is registered already\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("de/bian", "/srv/x"), "name: 'de/bian': must be 1 to 63 letters"),
        (("debian", "golden"), "source: 'golden': must be a path (as ./golden) or a URL"),
        (("debian", "ftp://h/x"), "source: 'ftp://h/x': scheme 'ftp' is not known; use a path"),
        (("debian", "/srv/x", "--sha256", "zz"), "sha256: 'zz': must be a SHA-256: 64 hexadecimal digits"),
        (
            ("debian", "/srv/x", "--min-disk", "99999999"),
            "min_disk_gib: 99999999: input should be less than or equal to",
        ),
        (("debian", "/srv/x", "--property", "scsi"), "--property"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli("image", "register", *words)

    assert (result.exit_code, worker.asked) == (2, [])
    assert said in result.stderr


def test_a_refusal_is_a_sentence(cli: Cli, worker: FakeWorker) -> None:
    def refuse(_: Asked) -> object:
        raise Refused("name: 'debian' is the name of another image")

    worker.answers["image.register"] = refuse

    result = cli("image", "register", "debian", "/srv/x")

    assert result.exit_code == 1
    assert "Error: image register debian was refused (Refused)" in result.stderr
    assert "name: 'debian' is the name of another image" in result.stderr


def test_images_are_deleted_and_told_each(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.delete"] = told

    result = cli("image", "delete", "debian", "gold", "debian")

    assert (result.exit_code, result.stdout) == (0, "debian is deleted\ngold is deleted\n"), result.stderr
    assert [asked.fields for asked in worker.asked] == [{"image": "debian"}, {"image": "gold"}]


def test_an_image_that_is_not_there_ends_with_3(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.delete"] = lambda asked: {"name": asked.fields["image"], "already": True}

    result = cli("image", "delete", "debian")

    assert (result.exit_code, result.stdout) == (3, "debian: there is no such image\n")


def test_a_delete_that_waits_for_its_host_says_so_and_can_be_taken_up_again(cli: Cli, worker: FakeWorker) -> None:
    def wait(asked: Asked) -> object:
        worker.store(asked.operation_id, "RETRY", Busy("image 'gold' is being deleted: host h1 is to remove its file"))
        return NOTHING

    worker.answers["image.delete"] = wait

    result = cli("image", "delete", "gold", "--timeout", "1.5")

    assert result.exit_code == 4
    assert "image 'gold' is being deleted: host h1 is to remove its file" in result.stderr
    request_id = worker.asked[0].operation_id
    assert f"Take it up again with: taskvisor ops follow {request_id}" in result.stderr
    assert cli("ops", "follow", request_id, "--timeout", "1").exit_code == 4
    worker.store(request_id, "SUCCESS", {"id": "i", "name": "gold", "state": "deleted"})
    assert cli("ops", "follow", request_id).exit_code == 0


def test_without_waiting_only_the_ids_are_told(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["image.delete"] = told

    result = cli("image", "delete", "gold", "--no-wait")

    assert (result.exit_code, "taskvisor ops follow" in result.stderr) == (0, True)
    assert cli("ops", "follow", result.stdout.strip()).stdout == "gold is done\n"


def test_an_image_is_shown(cli: Cli, book: Book) -> None:
    source = ImageSource(url="https://me:secret@images.example/x.qcow2?sig=secret", format=ImageFormat.QCOW2)
    made = book.put_image(
        "golden", source=source, properties={"hw_disk_bus": "scsi"}, min_disk_gib=3, size_bytes=0, virtual_bytes=0
    )

    said = cli("image", "show", "golden").stdout

    shown = [line.split(maxsplit=1) for line in said.splitlines()]
    assert ["Source", "https://images.example/x.qcow2"] in shown
    assert ["Needs", "3 GiB of disk, 0 MiB of memory"] in shown
    assert ["Property", "hw_disk_bus  scsi"] in shown
    assert "secret" not in said
    assert json_of(cli("image", "show", made.id, "-f", "json")) == image_view(made)


def test_an_image_that_is_going_shows_what_is_in_the_way(cli: Cli, book: Book) -> None:
    book.put_image("golden", host=HostName("h1"), deletion=GOING)

    said = cli("image", "show", "golden").stdout
    listed = cli("image", "list").stdout

    assert ("deleting" in said, "read-only file system" in said, "asked 3x" in said) == (True, True, True)
    assert "deleting" in listed.splitlines()[1]
    assert listed == cli("images").stdout


def test_an_image_that_is_not_there_is_a_failure_and_a_sentence(cli: Cli) -> None:
    result = cli("image", "show", "golden")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no image 'golden'; see `taskvisor image list`" in result.stderr
