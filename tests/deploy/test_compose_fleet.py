"""What docker-compose.yml starts, without containers: each service's own command and environment, and a guest is built.

The services get nothing but what the file says; host names and ports are this test's, and the central ones have a read-only root.
No image is built and no container runs here.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.deploy.redis_processes import Processes, free_port, open_processes
from tests.deploy.services import PLAIN_PATH, READ_ONLY_BUT, START_LIMIT_S, Service, running, words_of
from tests.deploy.test_compose import composed
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, wait_until
from tests.system.test_flower import IMAGE, SMALL, status_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

CENTRAL = ("control", "beat-1", "beat-2", "flower")
HOST = "simulated-host"
WORLD = "0.0.0.0"  # noqa: S104 - of a container's own network
IMAGES_OWN = dict(re.findall(r"(TASKVISOR_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The services that run, by name; and this test's ports in place of the containers'."""

    processes: Processes
    stack: ExitStack
    running: dict[str, Service] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=lambda: {port: free_port() for port in ("6379", "9464", "5555")})

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.ports['6379']}/0"

    def start_redis(self) -> None:
        """By the file's own command, and it is well by the file's own check."""
        program, *words = words_of(composed()["services"]["redis"]["command"])
        (self.processes.directory / "redis").mkdir()
        where = ("--port", self.ports["6379"], "--bind", "127.0.0.1", "--dir", self.processes.directory / "redis")
        self.processes.start("redis", program, *words, *map(str, where))
        wait_until(lambda: self.is_well("redis"), f"redis to be well: {self.processes.said('redis')}", START_LIMIT_S)

    def start(self, name: str) -> None:
        """The service runs as the file says."""
        service = composed()["services"][name]
        directory = self.processes.directory / name
        directory.mkdir()
        environment = {**IMAGES_OWN, **service["environment"], "TASKVISOR_STATE_DIR": str(directory)}
        environment = {key: self._here(str(value)) for key, value in environment.items()}
        environment |= {"TASKVISOR_FLOWER_PORT": str(self.ports["5555"])} if name == "flower" else {}
        confined = (READ_ONLY_BUT,) if service.get("read_only") else ()
        started = running(name, words_of(service["command"]), environment, directory, *confined)
        self.running[name] = self.stack.enter_context(started)

    def is_well(self, name: str) -> bool:
        """What the file's check of the service says, run for real."""
        kind, program, *words = composed()["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        if program == "redis-cli":
            words = ["-p", self.ports["6379"], *words]
        argv = [sys.executable if program == "python" else program, *(self._here(str(word)) for word in words)]
        done = subprocess.run(argv, env={"PATH": PLAIN_PATH}, capture_output=True, timeout=120, check=False)
        return done.returncode == 0

    def _here(self, text: str) -> str:
        """Host names, addresses and ports of containers in this test's terms: nothing here listens to the world."""
        text = text.replace("redis://redis:6379/", self.redis_url.removesuffix("0")).replace(WORLD, "127.0.0.1")
        return re.sub(r"\b(9464|5555)\b", lambda found: str(self.ports[found[0]]), text)


@pytest.fixture
def fleet() -> Iterator[Composed]:
    with open_processes() as processes, ExitStack() as stack:
        made = Composed(processes=processes, stack=stack)
        made.start_redis()
        yield made


def test_the_fleet_builds_a_guest_is_well_and_ends_in_order(fleet: Composed) -> None:
    for name in (*CENTRAL, HOST):
        fleet.start(name)
    host = composed()["services"][HOST]["environment"]["TASKVISOR_HOST"]
    nodes = Nodes(fleet.redis_url, fleet.processes.directory, host=host, driver="simulated")
    nodes.wait_until_up()

    built: dict[str, Any] = nodes.send("instance.build", name="web1", image=IMAGE, flavor=SMALL).get(
        timeout=START_LIMIT_S
    )
    assert (built["host"], built["vm_state"]) == (host, "active")
    for name in ("control", "flower"):
        wait_until(lambda name=name: fleet.is_well(name), f"{name} to be well", START_LIMIT_S)  # type: ignore[misc]
    wait_until(lambda: nodes.redis.zcard("taskvisor:beat::schedule"), "a timetable", START_LIMIT_S)
    assert (
        status_of(f"http://127.0.0.1:{fleet.ports['5555']}/tasks") == 200
    )  # no password is set, and the port is loopback's
    assert {name: service.stop() for name, service in fleet.running.items()} == dict.fromkeys(fleet.running, 0)


def test_a_service_that_is_away_is_not_well(fleet: Composed) -> None:
    assert fleet.is_well("redis")
    assert not fleet.is_well("control")
    assert not fleet.is_well("flower")
