"""Flower over a real node: a build is found by its instance's name, step by step, and ticks don't drown it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.redis_processes import free_port
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, running_nodes, wait_until

pytestmark = pytest.mark.real

IMAGE = "simulated://debian?virtual_gib=1"
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
LIMIT_S = 120.0
COLUMNS = ("name", "kwargs", "state", "result", "received", "runtime", "worker")
SEEN = {
    "instance.build",
    *(f"build.{step}" for step in ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")),
}


@contextmanager
def window(nodes: Nodes, **options: str) -> Iterator[str]:
    """`taskvisor flower`; where it answers."""
    port = free_port()
    environment = {
        **os.environ,
        "TASKVISOR_REDIS_URL": nodes.redis_url,
        "TASKVISOR_STATE_DIR": str(nodes.state_dir),
        "TASKVISOR_HOST": nodes.host,
        "TASKVISOR_FLOWER_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        **options,
    }
    log = nodes.state_dir / "flower.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskvisor.cli", "flower"], env=environment, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}/tasks") != 0, f"Flower: {log.read_text()}", LIMIT_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own, on loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def rows(url: str, search: str = "") -> list[dict[str, Any]]:
    """The rows of the page of tasks, as its table asks for them."""
    fields = {
        "draw": 1,
        "start": 0,
        "length": 100,
        "search[value]": search,
        "order[0][column]": 4,
        "order[0][dir]": "asc",
    }
    fields |= {f"columns[{number}][data]": name for number, name in enumerate(COLUMNS)}
    query = urllib.parse.urlencode(fields)
    with urllib.request.urlopen(f"{url}/tasks/datatable?{query}", timeout=30) as answer:  # noqa: S310 - likewise
        found: list[dict[str, Any]] = json.load(answer)["data"]
    return found


@pytest.fixture
def nodes(redis_url: str, tmp_state_dir: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_state_dir) as running:
        yield running


def test_a_build_is_found_by_its_instances_name_step_by_step(nodes: Nodes) -> None:
    with window(nodes) as url:
        wait_until(lambda: "Connected to" in (nodes.state_dir / "flower.log").read_text(), "Flower to listen", LIMIT_S)
        nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        failed = nodes.send("instance.build", name="bad1", image="/nowhere.qcow2", flavor=SMALL)
        failed.get(timeout=LIMIT_S, propagate=False)

        wait_until(lambda: {row["name"] for row in rows(url, "web1")} >= SEEN, f"the build: {rows(url)}", LIMIT_S)
        timeline = {row["name"]: row for row in rows(url, "web1")}
        assert {row["state"] for row in timeline.values()} == {"SUCCESS"}
        assert timeline["build.plug_vif"]["kwargs"] == "web1"
        assert timeline["build.plug_vif"]["worker"] == "steps@kvm1"
        assert timeline["instance.build"]["result"] == "web1 on kvm1"
        wait_until(lambda: _failure(url).startswith("Refused: fetch_image: there is no image"), _failure(url), LIMIT_S)
        assert [
            row["name"] for row in rows(url) if row["name"] in ("host.fan_out", "operation.sweep", "host.track")
        ] == []


def _failure(url: str) -> str:
    return next((str(row["result"]) for row in rows(url, "bad1") if row["name"] == "instance.build"), "")


def test_a_request_is_told_in_progress_after_each_step_but_the_last(nodes: Nodes) -> None:
    told: list[str] = []
    with nodes.producer.connection() as connection:
        receiver = nodes.producer.events.Receiver(
            connection, handlers={"task-progress": lambda event: told.append(event["result"]), "*": lambda _: None}
        )
        heard = receiver.itercapture(limit=None, timeout=LIMIT_S, wakeup=False)
        next(heard)  # a heartbeat: it listens
        built = nodes.send("instance.build", name="web1", image=IMAGE, flavor=SMALL)
        deadline = time.monotonic() + LIMIT_S
        while len(told) < 4 and time.monotonic() < deadline:
            next(heard)

    assert told == [
        "1 of 5, next: fetch_image",
        "2 of 5, next: render_xml",
        "3 of 5, next: plug_vif",
        "4 of 5, next: define_and_start",
    ]
    assert built.get(timeout=LIMIT_S)["vm_state"] == "active"


def test_with_a_password_nobody_looks_in_without_it(nodes: Nodes) -> None:
    with window(nodes, FLOWER_BASIC_AUTH="ops:secret") as url:
        assert status_of(f"{url}/tasks") == 401
        assert status_of(f"{url}/api/workers") == 401
