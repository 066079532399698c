"""`taskvisor volume` and `launch --volume`: what is sent, what is told."""

import pytest

from taskvisor.cli.arguments import volume_for
from taskvisor.cli.exits import UsageError
from taskvisor.model.volume import VolumeAttachment
from tests.cli.book import Book, instance
from tests.cli.conftest import Cli, json_of
from tests.cli.fake_worker import FakeWorker

VIEW = {"id": "1", "name": "web-1", "vm_state": "active", "host": "host-1", "addresses": [], "volumes": []}


def test_a_volume_is_typed_as_its_source_and_its_options() -> None:
    assert volume_for("rbd://p/v", "SOURCE") == {"source": "rbd://p/v"}
    assert volume_for("rbd://p/v,format=raw,boot=1,readonly=yes,shareable=no,read_iops=10", "SOURCE") == {
        "source": "rbd://p/v",
        "format": "raw",
        "boot_index": 1,
        "readonly": True,
        "shareable": False,
        "read_iops": 10,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rbd://p/v,size=1", "'size=1' is none of the volume's options, or is there twice"),
        ("rbd://p/v,device=vdb,device=vdc", "'device=vdc' is none of the volume's options, or is there twice"),
        ("rbd://p/v,source=rbd://p/w", "or is there twice"),
        ("rbd://p/v,readonly", "'readonly' is none"),
        ("rbd://p/v,readonly=true", "must be yes or no"),
        ("rbd://p/v,boot=first", "must be a number"),
    ],
)
def test_what_is_typed_wrong_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        volume_for(text, "--volume")
    assert str(error.value).startswith(f"--volume {text!r}: ")
    assert said in str(error.value)


def test_volumes_are_attached_and_detached(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.attach_volume"] = worker.answers["instance.detach_volume"] = lambda _: VIEW
    attached = cli("volume", "attach", "web-1", "rbd://p/v,cache=none", "--device", "vdc", "--wait-turn", "5")
    assert (attached.exit_code, attached.stdout) == (0, "web-1 has the volume on host-1\n")
    detached = cli("volume", "detach", "web-1", "rbd://p/v")
    assert (detached.exit_code, detached.stdout) == (0, "web-1 has let go of the volume on host-1\n")
    assert [dict(asked.fields) for asked in worker.asked] == [
        {
            "instance": "web-1",
            "volume": {"source": "rbd://p/v", "cache": "none", "device": "vdc"},
            "wait_turn_s": 5,
        },
        {"instance": "web-1", "volume": "rbd://p/v"},
    ]


def test_a_volume_that_is_attached_already_has_its_own_code(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.attach_volume"] = lambda _: {**VIEW, "already": True}
    result = cli("volume", "attach", "web-1", "rbd://p/v")
    assert (result.exit_code, result.stdout) == (3, "web-1 has the volume already\n")


def test_what_cannot_be_a_volume_is_not_sent(cli: Cli, worker: FakeWorker) -> None:
    for source in ("/srv/v.raw", "rbd://p/v,format=vmdk", "rbd://p/v,boot=0"):
        assert cli("volume", "attach", "web-1", source).exit_code == 2
    assert cli("launch", "/srv/a", "-n", "web-1", "--volume", "file:///srv/v.raw").exit_code == 2
    assert list(worker.asked) == []


def test_a_launch_sends_its_volumes(cli: Cli, worker: FakeWorker) -> None:
    worker.answers["instance.build"] = lambda _: VIEW
    words = ("launch", "/srv/a", "-n", "web-1", "--volume", "rbd://p/v", "--volume", "rbd://p/w,serial=w")
    assert cli(*words).exit_code == 0
    assert worker.asked[0].fields["volumes"] == [{"source": "rbd://p/v"}, {"source": "rbd://p/w", "serial": "w"}]


def test_the_volumes_of_an_instance_are_listed(cli: Cli, book: Book) -> None:
    volumes = (VolumeAttachment(source="rbd://p/v", serial="v", device="vdb"),)
    book.put_instance(instance("web-1", volumes=volumes))
    assert cli("volume", "list", "web-1").stdout.splitlines()[1].split() == [
        "vdb",
        "v",
        "raw",
        "alone",
        "rbd://p/v",
        "web-1",
    ]
    assert json_of(cli("volume", "list", "web-1", "-f", "json")) == [
        {
            "source": "rbd://p/v",
            "serial": "v",
            "device": "vdb",
            "format": "raw",
            "shareable": False,
            "readonly": False,
            "instance": "web-1",
        }
    ]
    assert "rbd://p/v, v" in cli("show", "web-1").stdout


def test_an_instance_may_have_none(cli: Cli, book: Book) -> None:
    book.put_instance(instance("web-1"))
    assert "web-1 has no volumes." in cli("volume", "list", "web-1").stderr
