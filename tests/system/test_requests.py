"""Requests by Celery to real workers whose guests are simulated: what a producer without KVM sees."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from taskvisor.model.ids import InstanceId, OperationId
from taskvisor.model.states import VmState
from tests.fixtures.redis_servers import RedisServer
from tests.system.nodes import Nodes, running_nodes, wait_until
from workers.locks import InstanceLocks

pytestmark = pytest.mark.real

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A host, for all tests of this module. Database 15 is theirs alone."""
    redis_server.flush(15)
    with running_nodes(redis_server.url(15), tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(autouse=True)
def everything_is_deleted(nodes: Nodes) -> Iterator[None]:
    """After each test its guests are deleted, and then no lease, claim, address, name or unsettled operation is left."""
    yield
    for name in nodes.redis.hkeys("taskvisor:names"):
        nodes.ask("instance.delete", instance=name)
    assert held(nodes) == []


def held(nodes: Nodes) -> list[str]:
    """Keys of what is held by somebody."""
    kinds = ("lease", "claims", "addresses", "ports", "instance", "instances", "names", "macs", "ops:", "allocating")
    return sorted(str(key) for kind in kinds for key in nodes.redis.keys(f"taskvisor:{kind}*"))


def build(nodes: Nodes, name: str, operation_id: str | None = None, **fields: object) -> dict[str, object]:
    asked = {"name": name, "image": IMAGE, "flavor": SMALL, **fields}
    outcome: dict[str, object] = nodes.ask("instance.build", operation_id, **asked)
    return outcome


def test_a_build_returns_the_instance_that_runs(nodes: Nodes) -> None:
    built = build(nodes, "web1")

    assert (built["name"], built["host"], built["vm_state"], built["power_state"]) == (
        "web1",
        "kvm1",
        "active",
        "running",
    )
    assert len(built["addresses"]) == 1  # type: ignore[arg-type]


def test_the_operation_is_the_task_and_its_timeline_shows_every_step(nodes: Nodes) -> None:
    operation_id = str(uuid.uuid4())
    build(nodes, "web1", operation_id)

    operation = nodes.catalog.find_operation(operation_id)

    assert [(entry.step, entry.outcome) for entry in operation.timeline] == [
        ("prepare_disk", "done"),
        ("fetch_image", "done"),
        ("render_xml", "done"),
        ("plug_vif", "done"),
        ("define_and_start", "done"),
    ]


def test_the_same_id_again_is_the_same_operation_and_the_same_instance(nodes: Nodes) -> None:
    operation_id = str(uuid.uuid4())

    first = build(nodes, "web1", operation_id)
    again = [nodes.send("instance.build", operation_id, name="web1", image=IMAGE, flavor=SMALL) for _ in range(5)]

    assert [result.get(timeout=30)["id"] for result in again] == [first["id"]] * 5
    assert len(nodes.catalog.list_instances()) == 1


def test_an_id_stays_that_of_its_first_request(nodes: Nodes) -> None:
    operation_id = str(uuid.uuid4())
    first = build(nodes, "web1", operation_id)

    second = nodes.send("instance.build", operation_id, name="other", image=IMAGE)
    build(nodes, "web2")

    assert second.get(timeout=30)["id"] == first["id"]
    assert [instance.name for instance in nodes.catalog.list_instances()] == ["web1", "web2"]


BAD = [
    ({"name": "<web>"}, "name: '<web>': must be 1 to 63 letters, digits, dots or hyphens"),
    ({"name": "a;rm -rf /"}, "name: 'a;rm -rf /': must be"),
    ({"name": "../etc"}, "name: '../etc': must be"),
    ({"name": "w\n"}, "name: 'w\\n': must be"),
    ({"bogus": 1}, "bogus: unknown field"),
    ({"image": "ftp://x/y"}, "image: 'ftp://x/y': scheme 'ftp' is not known"),
    ({"image": "nosuch"}, "image: 'nosuch': no image of that name is registered"),
    ({"image": "/a/../b"}, "must be an absolute path without"),
    ({"image_sha256": "zz"}, "image_sha256: 'zz': must be a SHA-256"),
    ({"flavor": "huge"}, "flavor: 'huge': there is no such flavor"),
    ({"flavor": {"vcpus": 0, "memory_mib": 64}}, "flavor.vcpus: 0: input should be greater than or equal to 1"),
    ({"flavor": {"vcpus": 1, "memory_mib": 1 << 40}}, "flavor.memory_mib: 1099511627776: input should be less than"),
    ({"flavor": {"vcpus": 200, "memory_mib": 16_000_000}}, "no host fits"),
    ({"networks": ["nosuch"]}, "networks: 'nosuch': there is no such network"),
    ({"networks": [{"network": "default", "address": "10.99.0.1"}]}, "address: 10.99.0.1 is not in 10.152.0.0/16"),
    ({"networks": [{"network": "default", "address": "10.152.0.1"}]}, "address: 10.152.0.1 is the network's own"),
    ({"networks": [{"network": "default", "mac": "01:00:00:00:00:01"}]}, "must be a unicast address"),
    ({"ssh_keys": ["not a key"]}, "must be one public key in OpenSSH's format"),
    ({"user_data": "x" * 70_000}, "is 70000 bytes; at most 65535"),
    ({"metadata": {"a<b": "c"}}, "metadata"),
    ({"host": "elsewhere"}, "only host elsewhere was asked for"),
]


@pytest.mark.parametrize(("wrong", "sentence"), BAD, ids=[str(wrong)[:40] for wrong, _ in BAD])
def test_bad_input_is_one_clear_sentence_and_leaves_nothing(
    nodes: Nodes, wrong: dict[str, object], sentence: str
) -> None:
    operation_id = str(uuid.uuid4())
    request = {"name": "web1", "image": IMAGE, "flavor": SMALL, **wrong}

    with pytest.raises(Exception) as failure:
        nodes.send("instance.build", operation_id, **request).get(timeout=30)

    assert sentence in str(failure.value)
    assert "\n" not in str(failure.value)
    assert held(nodes) == []
    nodes.forget(operation_id)
    assert build(nodes, "web1", operation_id)["vm_state"] == "active"


def test_a_missing_file_fails_at_fetch_image_and_the_roll_back_leaves_nothing(nodes: Nodes) -> None:
    operation_id = str(uuid.uuid4())

    with pytest.raises(Exception, match="fetch_image: there is no image /nosuch"):
        build(nodes, "web1", operation_id, image="/nosuch")

    operation = nodes.catalog.find_operation(operation_id)
    assert [(entry.step, entry.direction.value, entry.outcome) for entry in operation.timeline] == [
        ("prepare_disk", "do", "done"),
        ("fetch_image", "do", "Refused"),
        ("prepare_disk", "undo", "done"),
    ]
    assert held(nodes) == []


def test_a_failed_build_can_be_asked_again_with_its_id_and_a_better_request(nodes: Nodes) -> None:
    operation_id = str(uuid.uuid4())
    with pytest.raises(Exception, match="fetch_image"):
        build(nodes, "web1", operation_id, image="/nosuch")

    wait_until(lambda: nodes.catalog.find_operation(operation_id).phase.settled, "the failed build to settle")

    nodes.forget(operation_id)
    assert build(nodes, "web1", operation_id)["vm_state"] == "active"


def test_a_name_already_taken_is_refused_with_its_owner(nodes: Nodes) -> None:
    first = build(nodes, "web1")

    with pytest.raises(Exception, match=f"name: 'web1' is the name of instance {first['id']}"):
        build(nodes, "web1")


def test_an_address_already_taken_is_refused(nodes: Nodes) -> None:
    build(nodes, "web1", networks=[{"network": "default", "address": "10.152.7.7"}])

    with pytest.raises(Exception, match=r"address: 10\.152\.7\.7 on network 'default' belongs to port"):
        build(nodes, "web2", networks=[{"network": "default", "address": "10.152.7.7"}])


def test_every_power_operation_ends_in_the_state_that_was_asked_for(nodes: Nodes) -> None:
    build(nodes, "web1")

    assert nodes.ask("instance.reboot", instance="web1")["vm_state"] == "active"
    assert nodes.ask("instance.reboot", instance="web1", type="hard")["vm_state"] == "active"
    assert nodes.ask("instance.stop", instance="web1")["vm_state"] == "stopped"
    assert nodes.ask("instance.stop", instance="web1")["already"] is True
    assert nodes.ask("instance.start", instance="web1")["vm_state"] == "active"
    assert nodes.ask("instance.start", instance="web1")["already"] is True


@contextmanager
def held_by_us(nodes: Nodes, guest: InstanceId) -> Iterator[None]:
    """We hold the guest's lock, once the process that built it has let go."""
    locks = InstanceLocks(nodes.state_dir / "locks" / "instances")
    with ExitStack() as stack:
        wait_until(lambda: stack.enter_context(locks.hold(guest)), "the build to let go of its guest")
        yield


def test_a_request_may_wait_for_its_turn_and_is_told_whom_it_waits_for(nodes: Nodes) -> None:
    guest = InstanceId(str(build(nodes, "web1")["id"]))
    with held_by_us(nodes, guest):  # so that no step of it can run
        reboot = nodes.send("instance.reboot", "the-reboot", instance="web1", type="hard")
        wait_until(lambda: nodes.catalog.read_operation(OperationId("the-reboot")), "the reboot to be let in")
        patient = nodes.send("instance.stop", instance="web1", timeout_s=0, wait_turn_s=60)
        with pytest.raises(Exception, match="instance web1 is held by operation the-reboot") as refused:
            nodes.ask("instance.stop", instance="web1", wait_turn_s=1)
        assert type(refused.value).__name__ == "Conflicting"
        wait_until(lambda: patient.state == "RETRY", "the other to wait for its turn")
        assert "held by operation the-reboot (instance.reboot, running, at step " in str(patient.info)

    def swept() -> bool:
        nodes.send("operation.sweep")
        return bool(reboot.ready())

    wait_until(swept, "the sweep to find the reboot, whose message was dropped")
    assert reboot.get(timeout=30)["vm_state"] == "active"
    assert patient.get(timeout=30)["vm_state"] == "stopped"


def test_a_failed_build_that_was_kept_goes_on_from_where_it_failed(nodes: Nodes, tmp_path: Path) -> None:
    image = tmp_path / "late.raw"
    with pytest.raises(Exception, match="what was done is kept on kvm1"):
        build(nodes, "web1", "kept", image=str(image), on_failure="keep")
    assert nodes.redis.exists("taskvisor:lease:" + str(nodes.redis.hget("taskvisor:names", "web1"))) == 0
    image.write_bytes(bytes(510) + b"\x55\xaa")

    nodes.ask("operation.retry", operation="kept")

    wait_until(lambda: nodes.producer.AsyncResult("kept").state == "SUCCESS", "the build to end")
    timeline = nodes.catalog.find_operation("kept").timeline
    assert [entry.step for entry in timeline if entry.outcome == "done"].count("prepare_disk") == 1


def test_a_snapshot_is_an_image_that_another_build_uses(nodes: Nodes) -> None:
    build(nodes, "web1")

    name = f"golden-{uuid.uuid4().hex[:8]}"
    taken = nodes.ask("instance.snapshot", instance="web1", image=name)

    assert taken["snapshot"]["name"] == name
    assert build(nodes, "web2", image=name)["image"] == name
    with pytest.raises(Exception, match="is the name of image"):
        nodes.ask("instance.snapshot", instance="web1", image=name)


def test_a_request_that_was_answered_and_comes_late_changes_nothing(nodes: Nodes) -> None:
    """Answers of the door leave no operation: stopping what is off, a build whose name is taken."""
    build(nodes, "web1")
    nodes.ask("instance.stop", instance="web1")
    assert nodes.ask("instance.stop", "late-stop", instance="web1")["already"] is True
    with pytest.raises(Exception, match="name: 'web1' is the name of instance"):
        build(nodes, "web1", "late-build")
    nodes.ask("instance.start", instance="web1")
    nodes.send("instance.stop", "late-stop", instance="web1")

    nodes.ask("instance.reboot", instance="web1", type="hard")
    assert nodes.catalog.find_instance("web1").vm_state is VmState.ACTIVE  # type: ignore[union-attr]

    nodes.ask("instance.delete", instance="web1")
    nodes.send("instance.build", "late-build", name="web1", image=IMAGE, flavor=SMALL)
    nodes.ask("instance.delete", instance="nobody")  # behind it in the same queue
    assert nodes.catalog.list_instances() == ()


def test_deleting_what_is_not_there_is_success(nodes: Nodes) -> None:
    assert nodes.ask("instance.delete", instance="nobody")["already"] is True


def test_twenty_builds_at_once_get_twenty_addresses(nodes: Nodes) -> None:
    asked = [nodes.send("instance.build", name=f"web{i}", image=IMAGE, flavor=SMALL) for i in range(20)]

    built = [result.get(timeout=60) for result in asked]

    assert len({instance["addresses"][0] for instance in built}) == 20


def test_a_steps_node_killed_under_load_goes_on_where_it_was(nodes: Nodes) -> None:
    asked = [nodes.send("instance.build", name=f"web{i}", image=IMAGE, flavor=SMALL) for i in range(40)]
    wait_until(asked[3].ready, "the first builds to be done")
    before = nodes.incarnation()

    nodes.kill("steps")
    nodes.start("steps")

    assert [result.get(timeout=60)["vm_state"] for result in asked] == ["active"] * 40
    assert nodes.incarnation() != before
    assert len(nodes.catalog.list_instances()) == 40


def test_pool_processes_killed_under_load_lose_nothing(nodes: Nodes) -> None:
    import os
    import signal

    asked = [nodes.send("instance.build", name=f"web{i}", image=IMAGE, flavor=SMALL) for i in range(30)]
    for count in (3, 10, 20):
        wait_until(lambda count=count: sum(result.ready() for result in asked) >= count, f"{count} builds")  # type: ignore[misc]
        for role in ("steps", "control"):
            for child in nodes.children(role)[:1]:
                os.kill(child, signal.SIGKILL)

    assert [result.get(timeout=60)["vm_state"] for result in asked] == ["active"] * 30


def test_a_second_node_of_the_same_host_refuses_to_start(nodes: Nodes) -> None:
    twin = Nodes(nodes.redis_url, nodes.state_dir, host=nodes.host, driver="simulated")
    twin.start("steps")

    wait_until(lambda: twin._processes["steps"].poll() is not None, "the twin to give up")

    assert "the steps node of host kvm1 runs already" in nodes.log_tail("steps")
