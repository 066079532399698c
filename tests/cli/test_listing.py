"""What is there, as tables and as JSON."""

from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.records import Fault
from taskvisor.model.states import TaskState, VmState
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of


def test_instances_are_listed_by_name(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-2", host="host-2", vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING))
    book.put_instance(instance("web-1"))
    lines = cli("list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "ADDRESS", "HOST", "FLAVOR", "AGE", "IMAGE"]
    assert lines[1].split() == ["web-1", "active", "10.152.0.2", "host-1", "c1-m128-d1", "1m", "/srv/guest.qcow2"]
    assert lines[2].split()[:4] == ["web-2", "building/spawning", "10.152.0.2", "host-2"]
    assert [row["name"] for row in json_of(cli("list", "-f", "json"))] == ["web-1", "web-2"]
    assert [row["name"] for row in json_of(cli("list", "--host", "host-2", "-f", "json"))] == ["web-2"]


def test_nothing_is_said_on_stderr_and_is_an_empty_list_as_json(cli: Cli) -> None:
    for command in ("list", "hosts", "images", "networks"):
        result = cli(command)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr
        assert json_of(cli(command, "-f", "json")) == []


def test_an_instance_is_shown_by_name_or_id(cli: Cli, book: Book) -> None:
    fault = Fault(code="OutOfTries", message="no \x1b[31mroute", step="plug_vif", operation_id=OperationId("o"), at=1.0)
    made = book.put_instance(instance("web-1", fault=fault))
    said = cli("show", "web-1").stdout
    assert "10.152.0.2 on default, 52:54:00:00:00:01" in said
    assert "OutOfTries at plug_vif: no route" in said
    assert json_of(cli("show", made.id, "-f", "json"))["addresses"] == ["10.152.0.2"]


def test_an_instance_that_is_not_there_is_a_failure_and_a_sentence(cli: Cli) -> None:
    result = cli("show", "web-9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no instance 'web-9'; see `taskvisor list`" in result.stderr


def test_hosts_show_what_is_claimed_and_whether_they_live(cli: Cli, book: Book) -> None:
    book.put_host("host-1")
    book.put_host("host-2", alive_s=0)
    book.client.hset(book.keys.used("host-1"), mapping={"vcpus": 2, "memory_mib": 512, "disk_gib": 3})
    lines = cli("hosts").stdout.splitlines()
    assert lines[1].split()[:8] == ["host-1", "up", "0", "2/8", "512/4096", "3/100", "qemu", "x86_64"]
    assert lines[2].split()[:2] == ["host-2", "down"]
    view = json_of(cli("hosts", "-f", "json"))[0]
    assert (view["up"], view["limits"]["vcpus"], view["used"]["vcpus"]) == (True, 8, 2)
    assert HostName(view["name"]) == "host-1"


def test_images_and_networks_are_listed(cli: Cli, book: Book) -> None:
    book.put_image("golden")
    book.put_network("blue")
    assert cli("images").stdout.splitlines()[1].split()[:6] == ["golden", "300", "MiB", "1.0", "GiB", "any"]
    assert cli("networks").stdout.splitlines()[1].split() == [
        "blue",
        "nat",
        "10.1.0.0/24",
        "10.1.0.1",
        "1500",
        "yes",
        "yes",
        "-",
        "-",
    ]
    assert json_of(cli("networks", "-f", "json"))[0]["cidr"] == "10.1.0.0/24"
    assert json_of(cli("images", "-f", "json"))[0]["sha256"] == "ab" * 32
