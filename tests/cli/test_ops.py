"""`taskvisor ops`."""

import time
from dataclasses import replace

import pytest

from taskvisor.model.errors import Refused
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase
from tests.cli.book import Book, begun, ended, failed, instance, operation, succeeded
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import Asked, FakeWorker

PLACEMENT = ({"host": "host-2", "rule": "memory", "reason": "memory_mib 512 asked, 100 of 4096 free"},)


def test_operations_are_listed_newest_first(cli: Cli, book: Book) -> None:
    made = instance("web-1")
    first = operation("op-1", made)
    book.put_operation(replace(failed(first, step="plug_vif", code="Refused", message="x"), created_at=1.0))
    book.put_operation(begun(operation("op-2", made), "fetch_image"))
    lines = cli("ops", "list").stdout.splitlines()
    assert lines[1].split()[:6] == ["op-2", "build", "web-1", "running", "prepare_disk", "1/5"]
    assert lines[2].split()[:5] == ["op-1", "build", "web-1", "failed", "plug_vif"]
    views = json_of(cli("ops", "list", "-f", "json"))
    assert [(view["id"], view["instance"], view["phase"]) for view in views] == [
        ("op-2", "web-1", "running"),
        ("op-1", "web-1", "failed"),
    ]
    assert len(json_of(cli("ops", "list", "-n", "1", "-f", "json"))) == 1


def test_an_operation_shows_each_try_and_why_its_host_was_chosen(cli: Cli, book: Book) -> None:
    made = operation("op-1234", instance("web-1"), placement=PLACEMENT)
    made = ended(begun(made, "prepare_disk"), "prepare_disk")
    made = ended(begun(made, "fetch_image"), "fetch_image", "Retryable", "503, asked again")
    for _ in range(3):
        made = ended(replace(begun(made, "fetch_image"), steps=made.steps), "fetch_image", "Busy", "another fetches it")
    book.put_operation(failed(made, step="fetch_image", code="OutOfTries", message="503 five times"))
    said = cli("ops", "show", "op-12").stdout
    rows = [line.split() for line in said.splitlines()]
    assert ["STEP", "WAY", "TRY", "HOST", "START", "TIME", "OUTCOME", "MESSAGE"] in rows
    assert any(row[:4] == ["prepare_disk", "do", "1", "host-1"] and row[-1] == "done" for row in rows)
    assert any(row[:3] == ["fetch_image", "do", "1"] and "Retryable 503, asked again" in " ".join(row) for row in rows)
    assert sum("Busy x3" in line for line in said.splitlines()) == 1
    assert ["NOT", "ON", "RULE", "REASON", "WHAT", "WOULD", "HELP"] in rows
    assert "host-2  memory  memory_mib 512 asked, 100 of 4096 free" in said
    view = json_of(cli("ops", "show", "op-1234", "-f", "json"))
    assert view["failure"] == {"code": "OutOfTries", "step": "fetch_image", "message": "503 five times"}
    assert view["placement"] == [dict(PLACEMENT[0])]
    assert len(view["timeline"]) == 6


def stuck(operation_id: str, of: Instance) -> Operation:
    """A build that could not be rolled back."""
    made = ended(begun(operation(operation_id, of), "prepare_disk"), "prepare_disk")
    said = "tapfeed belongs to instance 6ba7; left alone"
    return failed(made, step="plug_vif", code="Contradiction", message=said, phase=Phase.STUCK)


def test_what_is_stuck_is_listed_however_much_has_happened_since(cli: Cli, book: Book) -> None:
    old = stuck("op-old", instance("web-1"))
    book.put_operation(replace(old, created_at=1.0, settled_at=time.time() - 3600 * 50))
    book.put_operation(stuck("op-new", instance("web-2")))
    for number in range(30):
        book.put_operation(succeeded(operation(f"later-{number}", instance("web-3")), instance("web-3")))

    lines = cli("ops", "list", "--stuck").stdout.splitlines()

    assert lines[0].split() == ["ID", "WHAT", "INSTANCE", "HOST", "STEP", "LEFT", "ALONE", "WHY", "SINCE"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["op-old", "build", "web-1", "host-1", "plug_vif"],
        ["op-new", "build", "web-2", "host-1", "plug_vif"],
    ]
    assert "prepare_disk, plug_vif  Contradiction: tapfeed belongs to instance 6ba7; left alone" in lines[1]
    assert lines[1].endswith(" 2d")
    (first, second) = json_of(cli("ops", "list", "--stuck", "-f", "json"))
    assert (first["id"], first["left_alone"], second["id"]) == ("op-old", ["prepare_disk", "plug_vif"], "op-new")


def test_what_was_stuck_and_goes_on_is_not_listed(cli: Cli, book: Book) -> None:
    was = book.put_operation(stuck("op-1", instance("web-1")))
    book.put_operation(replace(was, phase=Phase.ROLLING_BACK, settled_at=None, revision=was.revision + 1))
    result = cli("ops", "list", "--stuck")
    assert (result.stdout, result.stderr) == ("", "No operation is stuck.\n")


def test_a_stuck_operation_says_what_it_left_alone_and_what_to_do(cli: Cli, book: Book) -> None:
    book.put_operation(stuck("op-1", instance("web-1")))
    said = cli("ops", "show", "op-1").stdout
    assert "Contradiction at plug_vif: tapfeed belongs to instance 6ba7; left alone" in said
    assert "prepare_disk, plug_vif: begun, and not taken back" in said
    assert "`taskvisor ops retry op-1`; or `taskvisor delete web-1`, which takes over" in said


@pytest.mark.parametrize("command", ["show", "follow", "cancel", "retry"])
def test_an_operation_that_is_not_known_is_a_sentence(cli: Cli, command: str) -> None:
    result = cli("ops", command, "nonesuch")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no such operation is known; see `taskvisor ops list`" in result.stderr


def test_a_beginning_that_fits_several_is_refused(cli: Cli, book: Book) -> None:
    for operation_id in ("op-1", "op-2"):
        book.put_operation(operation(operation_id, instance("web-1")))
    assert "fits 2 operations" in cli("ops", "show", "op-").stderr


def test_following_what_has_ended_tells_its_end(cli: Cli, book: Book, worker: FakeWorker) -> None:
    made = instance("web-1")
    book.put_operation(succeeded(operation("op-1", made), made))
    result = cli("ops", "follow", "op-1")
    assert result.exit_code == 0
    assert result.stdout.startswith("web-1 is running on host-1, 10.152.0.2")
    book.put_operation(failed(operation("op-2", made), step="plug_vif", code="NoCapacity", message="full"))
    assert cli("ops", "follow", "op-2").exit_code == 5


def test_following_a_request_that_was_refused_at_the_door_tells_why(cli: Cli, worker: FakeWorker) -> None:
    worker.store("refused-1", "FAILURE", Refused("name: taken"))
    result = cli("ops", "follow", "refused-1")
    assert result.exit_code == 1
    assert "Why: name: taken" in result.stderr


def test_a_cancelled_operation_is_what_its_canceller_wanted(cli: Cli, book: Book, worker: FakeWorker) -> None:
    made = book.put_operation(begun(operation("op-1", instance("web-1")), "prepare_disk"))

    def cancel(asked: Asked) -> object:
        cancelled = failed(made, step="prepare_disk", code="Cancelled", message="asked to stop", phase=Phase.CANCELLED)
        book.put_operation(cancelled)
        return {"operation": asked.fields["operation"], "phase": "running"}

    worker.answers["operation.cancel"] = cancel
    result = cli("ops", "cancel", "op-1")
    assert (result.exit_code, result.stdout) == (0, "launch web-1 was cancelled; nothing of it is left\n")
    again = cli("ops", "cancel", "op-1")
    assert again.exit_code == 3
    assert "operation op-1 is cancelled already" in again.stderr


def test_an_operation_that_was_quicker_than_its_canceller_is_a_failure(
    cli: Cli, book: Book, worker: FakeWorker
) -> None:
    made = book.put_operation(operation("op-1", instance("web-1")))

    def cancel(asked: Asked) -> object:
        book.put_operation(succeeded(made, instance("web-1")))
        return {"operation": "op-1", "phase": "running"}

    worker.answers["operation.cancel"] = cancel
    result = cli("ops", "cancel", "op-1")
    assert result.exit_code == 1
    assert "was not cancelled: it has succeeded meanwhile" in result.stderr


def test_a_cancel_that_is_refused_says_why(cli: Cli, book: Book, worker: FakeWorker) -> None:
    book.put_operation(operation("op-1", instance("web-1")))

    def refuse(_: Asked) -> object:
        raise Refused("operation op-1 deletes web-1; a delete cannot be cancelled")

    worker.answers["operation.cancel"] = refuse
    result = cli("ops", "cancel", "op-1")
    assert result.exit_code == 1
    assert "a delete cannot be cancelled" in result.stderr


def test_a_retry_is_followed_to_its_end(cli: Cli, book: Book, worker: FakeWorker) -> None:
    made = instance("web-1")
    old = book.put_operation(failed(operation("op-1", made), step="plug_vif", code="OutOfTries", message="x"))

    def retry(asked: Asked) -> object:
        going = replace(operation(asked.fields["operation"], made), revision=old.revision + 1)
        book.put_operation(succeeded(begun(going, "prepare_disk"), made))
        return {"operation": OperationId("op-1"), "phase": "running"}

    worker.answers["operation.retry"] = retry
    assert cli("ops", "retry", "op-1", "--no-wait").exit_code == 0
    assert cli("ops", "retry", "op-1").stdout.startswith("web-1 is running on host-1")
