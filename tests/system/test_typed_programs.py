"""What the pages tell to run that is no `taskvisor`: programs in Python, lines of redis-cli, a module of ours by its name.

Each is taken from its page as it stands; only where Redis is, and where an image lies, is another on this machine.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from taskvisor.model.urls import celery_url_for
from tests.fixtures.machine import ROOT, run_or_fail
from tests.support.pages import blocks_of
from tests.system.nodes import Nodes, running_nodes, wait_until

pytestmark = pytest.mark.real

LIMIT_S = 240.0
README, PRODUCERS, RUNBOOK = (
    (ROOT / page).read_text() for page in ("README.md", "docs/producers.md", "docs/runbook.md")
)
FOREIGN, OURS = blocks_of(PRODUCERS, "python")
DEAD_SHOWN, DEAD_SENT_AGAIN = (block for block in blocks_of(RUNBOOK, "") if ".dead" in block)
REDIS_OF_UP = "redis+socket:///var/lib/taskvisor/redis/redis.sock"
REDIS_ON_THE_PAGE, IMAGE_ON_THE_PAGE = "redis://redis:6379/0", "/srv/images/debian.qcow2"
ADDRESSES = r"^\['10\.152\.\d+\.\d+'\]$"


@pytest.fixture
def nodes(redis_url: str, tmp_path: Path) -> Iterator[Nodes]:
    with running_nodes(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of one GiB that this host has."""
    path = tmp_path / "debian.qcow2"
    run_or_fail(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], limit_s=LIMIT_S)
    return path


def said_by(argv: list[str], directory: Path, **environment: str) -> str:
    """What a process said that ended well; it knows of Taskvisor what `environment` tells it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("TASKVISOR_", "PYTHONPATH"))}
    done = subprocess.run(
        argv, env=plain | environment, cwd=directory, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_places(block: str, places: Mapping[str, str]) -> str:
    for on_the_page, here in places.items():
        assert on_the_page in block
        block = block.replace(on_the_page, here)
    return block


def test_the_program_of_the_readme_builds_a_guest(nodes: Nodes, tmp_path: Path) -> None:
    (block,) = blocks_of(README, "python")
    nodes.ask("image.register", name="debian-12", source="https://images.example/debian-12.qcow2")

    said = said_by([sys.executable, "-c", with_places(block, {REDIS_OF_UP: celery_url_for(nodes.redis_url)})], tmp_path)

    assert re.search(ADDRESSES, said, re.M), said
    nodes.ask("instance.delete", instance="web1")


def test_a_producer_that_knows_nothing_but_celery_builds_a_guest(nodes: Nodes, image: Path, tmp_path: Path) -> None:
    places = {REDIS_ON_THE_PAGE: celery_url_for(nodes.redis_url), IMAGE_ON_THE_PAGE: str(image)}

    said = said_by([sys.executable, "-c", with_places(FOREIGN, places)], tmp_path)

    assert re.search(ADDRESSES, said, re.M), said
    nodes.ask("instance.delete", instance="web1")


def test_our_own_client_follows_a_build_to_its_end(nodes: Nodes, image: Path, tmp_path: Path) -> None:
    places = {REDIS_ON_THE_PAGE: nodes.redis_url, IMAGE_ON_THE_PAGE: str(image)}

    said = said_by([sys.executable, "-c", with_places(OURS, places)], tmp_path, PYTHONPATH=str(ROOT))

    assert "prepare_disk 1 5 ended done" in said
    assert re.search(r" succeeded( |$)", said, re.M), said
    assert re.search(ADDRESSES, said, re.M), said
    nodes.ask("instance.delete", instance="web1")


def test_dead_letters_are_shown_and_sent_again(nodes: Nodes, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    socket, _, number = nodes.redis_url.removeprefix("unix://").partition("?db=")
    (programs / "redis-cli").write_text(f'#!/bin/sh\nexec /usr/bin/redis-cli -s {socket} -n {number} "$@"\n')
    (programs / "redis-cli").chmod(0o755)
    shell = {"PATH": f"{programs}:{os.environ['PATH']}"}
    nodes.redis.lpush("compute", "no message of Celery's")
    wait_until(lambda: nodes.redis.llen("compute.dead") == 1, "it to be set aside", LIMIT_S)

    shown = said_by(["bash", "-e", "-c", DEAD_SHOWN], tmp_path, **shell)
    said_by(["bash", "-e", "-o", "pipefail", "-c", DEAD_SENT_AGAIN], tmp_path, **shell)

    assert shown.splitlines()[:2] == ["compute.dead", "1"]
    assert "no message of Celery's" in shown
    wait_until(lambda: nodes.redis.llen("compute.dead") == 2, "it to be set aside again", LIMIT_S)
    (first, second) = (json.loads(str(one))["raw"] for one in nodes.redis.lrange("compute.dead", 0, -1))
    assert first == second == "no message of Celery's"
    nodes.redis.delete("compute.dead")


def test_the_module_that_looks_at_the_machine_says_what_the_command_says(nodes: Nodes, tmp_path: Path) -> None:
    known = {name: value for name, value in nodes.environment.items() if name.startswith("TASKVISOR_")}

    said = said_by([sys.executable, "-m", "workers.preflight"], tmp_path, PYTHONPATH=str(ROOT), **known)

    assert "Redis" in said
