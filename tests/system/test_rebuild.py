"""Redis loses everything while real workers run; `taskvisor rebuild --from-hosts` as an operator runs it. Guests don't notice."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, running_nodes, wait_until
from tests.system.test_main_job import wait_for_page
from tests.system.test_verify import Verified, verify

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
BOOTABLE = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}
COMMAND_LIMIT_S = 240.0
ANSWER_LIMIT_S = 30
PAUSE_S = 0.1


def rebuild(nodes: Nodes, *words: str) -> tuple[int, dict[str, Any], str]:
    """How the command ended, what it told, and what it said besides."""
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(nodes.state_dir),
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "taskvisor.cli", "rebuild", "-f", "json", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@contextmanager
def asked_all_the_time(address: str) -> Iterator[list[str]]:
    """What the guest answered over HTTP, again and again without a pause worth the name; an empty text is a gap."""
    answers: list[str] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.wait(PAUSE_S):
            asked = ["curl", "-s", "--max-time", str(ANSWER_LIMIT_S), f"http://{address}/"]
            answers.append(subprocess.run(asked, capture_output=True, text=True, check=False).stdout)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        thread.join(2 * ANSWER_LIMIT_S)


def boots_in(answers: list[str]) -> set[str]:
    """How often the guest said that it had booted; "" for what was no answer."""
    found = (line for answer in answers for line in (answer.splitlines() or [""]))
    return {line.removeprefix("boots: ") for line in found if line.startswith("boots: ") or not line}


def has_copies(nodes: Nodes, count: int) -> bool:
    root = nodes.state_dir / "simulated" if (nodes.state_dir / "simulated").exists() else nodes.state_dir
    return len(list(root.glob("instances/*/record.json"))) == count


@pytest.fixture
def simulated(redis_url: str, tmp_path: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
def nodes(libvirtd: Libvirtd, host_namespace: str, redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    """A real host of which nothing is left when the test ends."""
    with running_nodes(redis_url, tmp_state_dir, driver="libvirt", libvirt_uri=libvirtd.uri) as running:
        yield running
        for name in running.redis.hkeys("taskvisor:names"):
            running.ask("instance.delete", instance=name)
        assert list((tmp_state_dir / "instances").iterdir()) == []


def test_a_flushed_store_is_rebuilt_once_and_a_second_run_says_that_it_is_not_empty(simulated: Nodes) -> None:
    built = {
        name: simulated.ask("instance.build", name=name, image=IMAGE, flavor=SMALL, ssh_keys=["ssh-ed25519 AAAA me"])
        for name in ("web", "db")
    }
    wait_until(lambda: has_copies(simulated, 2), "both records to be kept beside their disks")
    simulated.redis.flushall()

    code, told, _ = rebuild(simulated, "--from-hosts", "--dry-run")
    assert (code, told["written"], told["counts"]["instances"]) == (0, False, 2)
    assert simulated.redis.keys("taskvisor:instance*") == []

    code, told, said = rebuild(simulated, "--from-hosts")
    assert (code, told["written"], told["conflicts"], told["silent"]) == (0, True, [], {}), said
    assert {found.id: found.name for found in simulated.catalog.list_instances()} == {
        one["id"]: name for name, one in built.items()
    }

    code, _, said = rebuild(simulated, "--from-hosts")
    assert code == 1
    assert "the store is not empty: it has 2 instances and 1 networks; add --merge" in said
    code, told, _ = rebuild(simulated, "--from-hosts", "--merge", "--hosts", "kvm1")
    assert (code, told["counts"]["instances"], told["counts"]["networks"]) == (0, 0, 0)
    assert verify(simulated) == Verified(codes=[], exit_code=0, stderr="")
    assert simulated.ask("instance.stop", instance="web")["vm_state"] == "stopped"


def test_nodes_that_are_started_on_a_closed_and_empty_store_tell_what_they_have(simulated: Nodes) -> None:
    simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    wait_until(lambda: has_copies(simulated, 1), "the record to be kept beside its disks")
    before = simulated.catalog.list_instances()
    for role in ("steps", "control"):
        simulated.kill(role)
    simulated.redis.flushall()
    assert rebuild(simulated, "--close")[0] == 0
    simulated.start("steps")
    simulated.start("control", concurrency=1)
    simulated.wait_until_up()

    code, told, said = rebuild(simulated, "--from-hosts")

    assert (code, told["written"]) == (0, True), said
    assert simulated.catalog.list_instances() == before
    assert verify(simulated) == Verified(codes=[], exit_code=0, stderr="")


def test_requests_wait_while_a_host_is_silent_and_the_store_is_closed(simulated: Nodes) -> None:
    simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    simulated.redis.flushall()

    code, told, _ = rebuild(simulated, "--from-hosts", "--hosts", "kvm1,kvm2", "--wait", "10")
    assert (code, told["written"], told["silent"]) == (1, False, {"kvm2": 0})
    waiting = simulated.send("instance.build", "second", name="new", image=IMAGE, flavor=SMALL)
    wait_until(lambda: waiting.state == "RETRY", "the request to wait")

    code, told, _ = rebuild(simulated, "--from-hosts", "--hosts", "kvm1,kvm2", "--without-host", "kvm2")
    assert (code, told["written"]) == (0, True)
    new = waiting.get(timeout=60)
    assert new["addresses"] != [simulated.catalog.find_instance("web").addresses[0]]  # type: ignore[union-attr]


def test_hosts_notice_by_themselves_that_the_store_is_lost_and_requests_wait_from_the_first_moment(
    simulated: Nodes,
) -> None:
    simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    simulated.redis.flushall()
    waiting = simulated.send("instance.build", "second", name="new", image=IMAGE, flavor=SMALL)
    wait_until(lambda: simulated.redis.exists("taskvisor:closed"), "a host to close the store")
    wait_until(lambda: simulated.redis.sismember("taskvisor:hosts", "kvm1"), "the host to report again")
    wait_until(lambda: waiting.state == "RETRY", "the request to wait")
    assert simulated.redis.keys("taskvisor:network*") == []

    code, told, said = rebuild(simulated, "--from-hosts")
    assert (code, told["written"]) == (0, True), said
    new = waiting.get(timeout=60)
    assert new["addresses"] != [simulated.catalog.find_instance("web").addresses[0]]  # type: ignore[union-attr]


def test_a_real_guest_answers_without_a_gap_while_its_records_are_lost_and_read_back(
    nodes: Nodes, guest_image: Path
) -> None:
    built = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=BOOTABLE)
    nodes.ask("instance.build", name="off", image=str(guest_image), flavor=BOOTABLE)
    nodes.ask("instance.stop", instance="off", timeout_s=0)
    nodes.ask("instance.snapshot", instance="off", image="gold")
    wait_for_page(built)
    wait_until(lambda: has_copies(nodes, 2), "both records to be kept beside their disks")
    wait_until(lambda: list(nodes.state_dir.glob("images/*.record.json")), "the image's record to be kept")
    before = {one.name: one for one in nodes.catalog.list_instances()}, nodes.catalog.list_images()
    networks = nodes.catalog.list_networks()

    with asked_all_the_time(built["addresses"][0]) as answers:
        wait_until(lambda: len(answers) >= 3, "the guest to answer before")
        nodes.redis.flushall()
        code, told, said = rebuild(nodes, "--from-hosts")
        asked = len(answers)
        wait_until(lambda: len(answers) >= asked + 3, "the guest to answer after")
    assert (code, told["written"], told["notes"]) == (0, True, []), said
    assert boots_in(answers) == {"1"}
    assert ({one.name: one for one in nodes.catalog.list_instances()}, nodes.catalog.list_images()) == before
    assert nodes.catalog.list_networks() == networks

    found = verify(nodes)
    assert (found.codes, found.exit_code) == ([], 0), found
    assert nodes.ask("instance.stop", instance="web")["vm_state"] == "stopped"
    assert nodes.ask("instance.start", instance="web")["vm_state"] == "active"
    wait_for_page(built, boots="2")
    assert nodes.ask("instance.reboot", instance="web", type="hard")["vm_state"] == "active"
    assert nodes.ask("instance.snapshot", instance="off", image="silver")["snapshot"]["sha256"]
    nodes.ask("instance.delete", instance="web")
    assert nodes.catalog.find_instance("web") is None
