"""Requests from the command line to a worker's answer: what is sent, what is told, and the exit code."""

from typing import Any

import pytest

from taskvisor.client import Taskvisor
from taskvisor.model.errors import CannotAsk, Conflicting, NoCapacity, Refused
from taskvisor.model.states import Phase
from tests.cli.book import Book, begun, failed, instance, operation, succeeded
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import NOTHING, Answer, Asked, FakeWorker

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFoo me@here"


def building(book: Book) -> Answer:
    """A build that succeeds."""

    def answer(asked: Asked) -> object:
        made = instance(asked.fields["name"])
        letting_in = book.put_operation(operation(asked.operation_id, made, request=dict(asked.fields)))
        book.put_operation(succeeded(begun(letting_in, "prepare_disk"), made))
        return NOTHING

    return answer


def raising(error: Exception) -> Answer:
    def answer(_: Asked) -> object:
        raise error

    return answer


def test_a_launch_is_told_step_by_step_and_ends_with_where_it_runs(cli: Cli, book: Book, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = building(book)
    result = cli("launch", "/srv/a.qcow2", "--name", "web-1", "-t", "c1-m128-d1", "--id", "op-1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("web-1 is running on host-1, 10.152.0.2 (")
    told = [line.split("  ", 2)[2] for line in result.stderr.splitlines()]
    assert told[0] == "launch on host-1: op-1"
    assert [line.split(" done in ")[0] for line in told[1:-1] if " done in " in line] == [
        "prepare_disk",
        "fetch_image",
        "render_xml",
        "plug_vif",
        "define_and_start",
    ]
    assert told[-1].startswith("succeeded after ")


def test_a_launch_sends_all_that_was_typed(cli: Cli, book: Book, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = building(book)
    words = ["launch", "https://h/a.qcow2", "-n", "web-1", "--network", "blue,address=10.1.0.9", "--network", "red"]
    words += [
        "--ssh-key",
        KEY,
        "--user-data",
        "-",
        "--config-drive",
        "configdrive-vfat",
        "--metadata",
        "a=b",
        "--image-sha256",
        "AB" * 32,
        "--host",
        "host-1",
    ]
    result = cli(*words, "-f", "json", stdin="#cloud-config\n")
    assert result.exit_code == 0, result.stderr
    assert json_of(result)["addresses"] == ["10.152.0.2"]
    assert worker.asked[0].fields == {
        "name": "web-1",
        "image": "https://h/a.qcow2",
        "flavor": "m1.tiny",
        "networks": [{"network": "blue", "address": "10.1.0.9"}, "red"],
        "ssh_keys": [KEY],
        "user_data": "#cloud-config\n",
        "config_drive": "configdrive-vfat",
        "metadata": {"a": "b"},
        "image_sha256": "ab" * 32,
        "host": "host-1",
    }


def test_a_launch_says_what_the_image_is_and_what_it_and_the_flavor_ask_for(
    cli: Cli, book: Book, worker: FakeWorker
) -> None:
    worker.answers["instance.build"] = building(book)
    words = ["launch", "/srv/a.vmdk", "-n", "web-1", "-t", "c2-m64-d1-s8", "--image-format", "vmdk"]
    words += ["--property", "hw_disk_bus=scsi", "--property", "os_type=linux", "--extra-spec", "hw:cpu_cores=2"]
    assert cli(*words).exit_code == 0
    assert worker.asked[0].fields == {
        "name": "web-1",
        "image": "/srv/a.vmdk",
        "image_format": "vmdk",
        "image_properties": {"hw_disk_bus": "scsi", "os_type": "linux"},
        "flavor": {
            "vcpus": 2,
            "memory_mib": 64,
            "disk_gib": 1,
            "swap_mib": 8,
            "ephemeral_gib": 0,
            "extra_specs": {"hw:cpu_cores": "2"},
        },
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/srv/a", "--name", "-x-"), "name: '-x-': must be 1 to 63 letters"),
        (("/srv/a", "--name", "x", "-t", "huge"), "flavor: 'huge': there is no such flavor"),
        (("ftp://h/a", "--name", "x"), "scheme 'ftp' is not known"),
        (("file://h/a", "--name", "x"), "must name a file of the host"),
        (("/srv/a", "--name", "x", "--network", "blue,mac=zz"), "must be six pairs of hexadecimal digits"),
        (("/srv/a", "--name", "x", "--id", "a b"), "--id 'a b': must be"),
        (("/srv/a", "--name", "x", "--image-sha256", "12"), "image_sha256"),
        (("/srv/a", "--name", "x", "--image-format", "zip"), "'zip' is not one of"),
        (("/srv/a", "--name", "x", "--property", "hw_disk_bus"), "--property 'hw_disk_bus': must be KEY=VALUE"),
        (("/srv/a", "--name", "x", "--extra-spec", "a=1", "--extra-spec", "a=2"), "--extra-spec a: is given twice"),
        (("/srv/a", "--name", "x", "-t", "huge", "--extra-spec", "a=1"), "flavor: 'huge': there is no such flavor"),
        (("/srv/a", "--name", "x", "--property", "a b=1"), "image_properties: 'a b'"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_sent(
    cli: Cli, worker: FakeWorker, words: tuple[str, ...], said: str
) -> None:
    result = cli("launch", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert worker.asked == []


def test_the_same_id_again_is_the_same_operation_and_another_request_is_refused(
    cli: Cli, book: Book, worker: FakeWorker
) -> None:
    worker.answers["instance.build"] = building(book)
    request: dict[str, Any] = {
        "name": "web-1",
        "image": "/srv/a",
        "image_sha256": None,
        "flavor": "m1.tiny",
        "networks": ["default"],
        "ssh_keys": [],
        "user_data": None,
        "metadata": {},
        "host": None,
    }
    made = instance("web-1")
    book.put_operation(succeeded(operation("op-1", made, request=request), made))
    assert cli("launch", "/srv/a", "--name", "web-1", "--id", "op-1").exit_code == 0
    result = cli("launch", "/srv/b", "--name", "web-1", "--id", "op-1")
    assert result.exit_code == 2
    assert "--id op-1: is that of another request (instance.build of web-1, succeeded)" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("name: 'web-1' is the name of instance 1; choose another"), 1),
        (NoCapacity("no host fits (vcpus 1): host-1: memory"), 5),
        (Conflicting("instance web-1 is held by operation abcd"), 1),
    ],
)
def test_a_request_refused_at_the_door_says_why(cli: Cli, worker: FakeWorker, error: Exception, code: int) -> None:
    worker.answers["instance.build"] = raising(error)
    result = cli("launch", "/srv/a", "--name", "web-1")
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"launch web-1 was refused ({type(error).__name__})" in result.stderr
    assert f"Why: {error}" in result.stderr


def test_a_failure_names_its_step_its_reason_and_what_to_try(cli: Cli, book: Book, worker: FakeWorker) -> None:
    def answer(asked: Asked) -> object:
        made = operation(asked.operation_id, instance("web-1"))
        book.put_operation(failed(made, step="fetch_image", code="OutOfTries", message="the server \x1b[2Jsaid 404"))
        return NOTHING

    worker.answers["instance.build"] = answer
    result = cli("launch", "/srv/a", "--name", "web-1", "--id", "op-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: launch web-1 failed at fetch_image (OutOfTries)" in result.stderr
    assert "Why: the server said 404" in result.stderr
    assert "taskvisor ops show op-1" in result.stderr
    assert "taskvisor ops retry op-1" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_stuck_operation_asks_for_a_person(cli: Cli, book: Book, worker: FakeWorker) -> None:
    def answer(asked: Asked) -> object:
        made = operation(asked.operation_id, instance("web-1"))
        message = "tap54000001-ab belongs to instance 6ba7; left alone"
        book.put_operation(failed(made, step="plug_vif", code="Contradiction", message=message, phase=Phase.STUCK))
        return NOTHING

    worker.answers["instance.build"] = answer
    result = cli("launch", "/srv/a", "--name", "web-1", "-f", "json")
    assert result.exit_code == 1
    assert "launch web-1 is stuck at plug_vif (Contradiction)" in result.stderr
    assert json_of(result)["error"] == {
        "code": "Contradiction",
        "step": "plug_vif",
        "message": "tap54000001-ab belongs to instance 6ba7; left alone",
    }


def test_several_names_go_at_once_and_the_gravest_end_counts(cli: Cli, worker: FakeWorker) -> None:
    def answer(asked: Asked) -> object:
        name = asked.fields["instance"]
        if name == "web-3":
            raise Refused("instance web-3 is building")
        return {"id": name, "name": name, "vm_state": "deleted", "already": name == "web-2"}

    worker.answers["instance.delete"] = answer
    result = cli("delete", "web-1", "web-2", "web-1")
    assert result.exit_code == 0
    assert result.stdout == "web-1 is deleted\nweb-2: there is no such instance\n"
    assert len(worker.asked) == 2
    assert cli("delete", "web-2").exit_code == 3
    result = cli("delete", "web-1", "web-3", "-f", "json")
    assert result.exit_code == 1
    assert [row.get("error", {}).get("code") for row in json_of(result)] == [None, "Refused"]


def test_already_so_has_its_own_code(cli: Cli, worker: FakeWorker) -> None:
    view = {"id": "1", "name": "web-1", "vm_state": "active", "host": "host-1", "addresses": [], "already": True}
    worker.answers["instance.start"] = lambda _: view
    result = cli("start", "web-1")
    assert (result.exit_code, result.stdout) == (3, "web-1 is active already\n")


def test_options_reach_the_worker(cli: Cli, worker: FakeWorker) -> None:
    view = {"id": "1", "name": "web-1", "vm_state": "active", "host": "host-1", "addresses": ["10.0.0.2"]}
    worker.answers["instance.stop"] = worker.answers["instance.reboot"] = lambda _: view
    worker.answers["instance.snapshot"] = lambda _: {**view, "snapshot": {"name": "golden"}}
    assert cli("stop", "web-1", "--shutdown-timeout", "0").stdout == "web-1 is stopped on host-1\n"
    assert cli("reboot", "web-1", "--hard").stdout == "web-1 was rebooted on host-1, 10.0.0.2\n"
    assert cli("reboot", "web-1").exit_code == 0
    assert cli("snapshot", "web-1", "golden").stdout == "web-1 was snapshotted on host-1: image golden\n"
    options = ("--method", "live", "--quiesce", "required", "--image-format", "qcow2", "--compression", "zstd")
    assert cli("snapshot", "web-1", "golden", *options).exit_code == 0
    assert [dict(asked.fields) for asked in worker.asked] == [
        {"instance": "web-1", "timeout_s": 0},
        {"instance": "web-1", "type": "hard"},
        {"instance": "web-1", "type": "soft"},
        {"instance": "web-1", "image": "golden"},
        {
            "instance": "web-1",
            "image": "golden",
            "method": "live",
            "quiesce": "required",
            "format": "qcow2",
            "compression": "zstd",
        },
    ]


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"method": "live", "quiesced": True, "why_not_quiesced": None}, ", quiesced"),
        ({"method": "live", "quiesced": False, "why_not_quiesced": "it is asleep"}, ", not quiesced: it is asleep"),
        ({"method": "cold", "quiesced": False, "why_not_quiesced": "the guest was not running"}, ""),
    ],
)
def test_a_live_snapshot_says_whether_it_was_quiesced(
    cli: Cli, worker: FakeWorker, way: dict[str, object], words: str
) -> None:
    view = {"id": "1", "name": "web-1", "vm_state": "active", "host": "host-1", "addresses": []}
    worker.answers["instance.snapshot"] = lambda _: {**view, "snapshot": {"name": "golden", **way}}
    assert cli("snapshot", "web-1", "golden").stdout == f"web-1 was snapshotted on host-1: image golden{words}\n"


def test_without_waiting_the_id_is_told(cli: Cli, worker: FakeWorker) -> None:
    result = cli("launch", "/srv/a", "--name", "web-1", "--id", "op-1", "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "op-1\n")
    assert "taskvisor ops follow op-1" in result.stderr
    assert json_of(cli("delete", "a", "b", "--no-wait", "-f", "json"))[1]["name"] == "b"


def test_when_the_time_is_up_the_operation_goes_on(cli: Cli, book: Book, worker: FakeWorker) -> None:
    def answer(asked: Asked) -> object:
        book.put_operation(begun(operation(asked.operation_id, instance("web-1")), "prepare_disk"))
        return NOTHING

    worker.answers["instance.build"] = answer
    result = cli("launch", "/srv/a", "--name", "web-1", "--id", "op-1", "--timeout", "1")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "Still running after 1.0 s; nothing is cancelled. Take it up again with: taskvisor ops follow op-1" in (
        result.stderr
    )


def test_a_request_that_no_worker_takes_says_so(cli: Cli) -> None:
    result = cli("start", "web-1", "--timeout", "3.5")
    assert result.exit_code == 4
    assert "no worker has taken it yet; is one up? see `taskvisor hosts`" in result.stderr


def test_a_launch_that_redis_did_not_take_can_be_asked_again_under_its_id(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> object:
        raise CannotAsk("Redis did not answer when asked to take the request")

    monkeypatch.setattr(Taskvisor, "build", silent)
    result = cli("launch", "/srv/a", "--name", "web-1", "--id", "op-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Try: the same again with --id op-1" in result.stderr


def test_when_redis_falls_silent_on_the_way_what_was_sent_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def delete(_: Taskvisor, name: str, *, operation_id: str) -> None:
        if sent:
            raise CannotAsk("Redis did not answer")
        sent.append(operation_id)

    monkeypatch.setattr(Taskvisor, "delete", delete)
    result = cli("delete", "web-1", "web-2")
    assert (result.exit_code, result.stdout) == (1, f"{sent[0]}\n")
    assert "Redis did not answer" in result.stderr


def test_a_soft_delete_is_asked_for_and_says_how_it_is_taken_back(cli: Cli, book: Book, worker: FakeWorker) -> None:
    made = book.put_instance(instance("web-1"))

    def answer(asked: Asked) -> object:
        letting_in = book.put_operation(operation(asked.operation_id, made, request=dict(asked.fields)))
        book.put_operation(succeeded(begun(letting_in, "prepare_disk"), made))
        return NOTHING

    worker.answers["instance.soft_delete"] = worker.answers["instance.restore"] = answer
    deleted, restored = cli("delete", "--soft", "web-1"), cli("restore", "web-1")

    assert (deleted.exit_code, restored.exit_code) == (0, 0), deleted.stderr + restored.stderr
    assert "web-1 is deleted softly; `taskvisor restore` brings it back" in deleted.stdout
    assert "web-1 is restored and running" in restored.stdout
    assert [asked.task for asked in worker.asked] == ["instance.soft_delete", "instance.restore"]
