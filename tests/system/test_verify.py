"""`taskvisor verify` as an operator runs it, against real workers: simulated guests first, then libvirt, QEMU and TAPs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskvisor.model.finding import Code
from taskvisor.model.ids import InstanceId
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT, run_or_fail
from tests.fixtures.namespaces import remove_link
from tests.system.nodes import Nodes, running_nodes
from virt.simulated.outsider import SimulatedOutsider

pytestmark = pytest.mark.real

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
BOOTABLE = {"vcpus": 1, "memory_mib": 128, "disk_gib": 1}
COMMAND_LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the command found, and how it ended."""

    codes: list[str]
    exit_code: int
    stderr: str
    found: list[dict[str, Any]] = field(default_factory=list, compare=False)


def verify(nodes: Nodes, *words: str) -> Verified:
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(nodes.state_dir),
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "taskvisor.cli", "verify", "-f", "json", "--wait", "30", *words]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    codes = [finding["code"] for finding in found]
    return Verified(codes=codes, exit_code=done.returncode, stderr=done.stderr, found=found)


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


def test_nothing_is_found_on_a_fleet_at_work(simulated: Nodes) -> None:
    building = [
        simulated.send("instance.build", name=f"web{number}", image=IMAGE, flavor=SMALL) for number in range(30)
    ]
    seen = [verify(simulated)]
    built = [result.get(timeout=60)["name"] for result in building]
    work = [simulated.send("instance.snapshot", instance=name, image=f"of-{name}") for name in built[:10]]
    work += [simulated.send("instance.reboot", instance=name, type="hard") for name in built[10:20]]
    work += [simulated.send("instance.delete", instance=name) for name in built[20:]]
    seen.append(verify(simulated))
    for result in work:
        result.get(timeout=60)
    seen.append(verify(simulated))
    assert [(one.codes, one.exit_code) for one in seen] == [([], 0)] * 3


def test_what_was_removed_behind_our_back_is_found(simulated: Nodes) -> None:
    built = simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    SimulatedOutsider(simulated.state_dir / "simulated").ensure_domain_gone(InstanceId(built["id"]))

    found = verify(simulated)

    assert (found.codes, found.exit_code) == (["domain-missing"], 1)
    simulated.leaves = {Code.DOMAIN_MISSING}


def test_what_was_found_is_mended_by_fix_and_found_no_more(simulated: Nodes) -> None:
    built = simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    simulated.ask("instance.build", name="other", image=IMAGE, flavor=SMALL)
    SimulatedOutsider(simulated.state_dir / "simulated").ensure_domain_gone(InstanceId(built["id"]))
    simulated.redis.hset("taskvisor:names", "ghost", "nobody")
    assert verify(simulated).codes == ["domain-missing", "name-without-instance"]

    assert (
        verify(simulated, "--fix", "domain-missing", "--dry-run")
        .found[0]["done"]
        .startswith("the domain is defined anew")
    )
    assert verify(simulated).codes == ["domain-missing", "name-without-instance"]
    by_host = verify(simulated, "--fix", "domain-missing", "--yes")
    of_records = verify(simulated, "--fix", "name-without-instance", "--yes")

    assert by_host.found[0]["done"] == "the domain of web is defined, and off: `taskvisor start web` starts it"
    assert of_records.found[0]["done"] == "the name 'ghost' is free"
    assert verify(simulated) == Verified(codes=[], exit_code=0, stderr="")
    simulated.ask("instance.start", instance="web")


def test_what_only_a_person_can_mend_is_refused_with_what_to_do(simulated: Nodes) -> None:
    refused = verify(simulated, "--fix", "disk-drifted", "--yes")
    assert refused.exit_code == 1
    assert "disk-drifted is not mended: a guest's data would be lost. By hand: stop the guest" in refused.stderr


def test_a_host_whose_control_node_is_dead_is_silent_and_nothing_is_said_of_its_guests(simulated: Nodes) -> None:
    built = simulated.ask("instance.build", name="web", image=IMAGE, flavor=SMALL)
    SimulatedOutsider(simulated.state_dir / "simulated").ensure_domain_gone(InstanceId(built["id"]))
    simulated.kill("control")

    found = verify(simulated, "--wait", "1")

    assert (found.codes, found.exit_code) == (["host-silent"], 1)
    assert "host kvm1 did not tell what it has" in found.stderr


def test_real_guests_agree_with_their_records_and_what_is_taken_from_them_is_found_and_mended(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    nodes.leaves = {Code.IMAGE_FILE_MISSING}
    built = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=BOOTABLE)
    nodes.ask("instance.build", name="off", image=str(guest_image), flavor=BOOTABLE)
    nodes.ask("instance.stop", instance="off", timeout_s=0)
    nodes.ask("instance.snapshot", instance="off", image="gold")
    assert verify(nodes) == Verified(codes=[], exit_code=0, stderr="")

    remove_link(libvirtd.namespace, f"tap{built['ports'][0]['id'][:11]}")
    assert verify(nodes).codes == ["link-missing"]
    nodes.ask("instance.reboot", instance="web", type="hard")
    assert verify(nodes).codes == []

    for verb in ("destroy", "undefine"):
        run_or_fail(["virsh", "-q", "-c", libvirtd.uri, verb, built["id"]], limit_s=30)
    assert verify(nodes).codes == ["domain-missing"]
    nodes.ask("instance.reboot", instance="web", type="hard")
    assert verify(nodes).codes == []

    (image,) = (nodes.state_dir / "images").glob("*.qcow2")
    image.unlink()
    assert verify(nodes).codes == ["image-file-missing"]


def test_what_was_edited_in_a_real_guest_is_found_until_it_is_defined_anew(
    nodes: Nodes, libvirtd: Libvirtd, guest_image: Path
) -> None:
    built = nodes.ask("instance.build", name="web", image=str(guest_image), flavor=BOOTABLE)

    def virsh(*words: str) -> None:
        run_or_fail(["virsh", "-q", "-c", libvirtd.uri, *words], limit_s=30)

    assert verify(nodes) == Verified(codes=[], exit_code=0, stderr="")
    virsh("setmaxmem", built["id"], "200M", "--config")
    virsh("domif-setlink", built["id"], f"tap{built['ports'][0]['id'][:11]}", "down")
    virsh("change-media", built["id"], "hda", "--eject", "--force", "--live")

    assert differences(nodes) == {
        ("drift.memory", "from its next start"),
        ("drift.nic.link", "until its next start"),
        ("drift.disk.source", "until its next start"),
    }
    nodes.ask("instance.reboot", instance="web", type="hard")
    assert verify(nodes).codes == []


def differences(nodes: Nodes) -> set[tuple[str, str]]:
    """Code of each difference of the only guest that has drifted, and when it is so."""
    (found,) = [finding for finding in verify(nodes).found if finding["code"] == "guest-drifted"]
    return {(one["code"], one["holds"]) for one in found["differences"]}
