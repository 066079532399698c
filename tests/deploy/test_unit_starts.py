"""Each systemd unit's own command, environment and directory, without systemd: it does what it is for, and ends in order."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskvisor.model.errors import Refused
from tests.deploy.redis_processes import free_port
from tests.deploy.services import READ_ONLY_BUT, START_LIMIT_S, Service, environment_of, running, words_of
from tests.deploy.test_units import UNITS
from tests.fixtures.machine import ROOT
from tests.system.nodes import Nodes, wait_until
from tests.system.test_flower import IMAGE, SMALL, listening_addresses, status_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PROGRAM = "/opt/taskvisor/bin/taskvisor"
BY_NAME = {unit.stem: unit for unit in UNITS}
STEP_3 = (ROOT / "docs" / "operations.md").read_text().partition("3. On each host `/etc/taskvisor.env`")[2]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What systemd would make of a unit's [Service], with its state below a directory of the test's."""

    file: Path
    state: Path

    def values(self, key: str) -> list[str]:
        """Each value of a key, with the specifier %S (systemd.unit(5)) and /var/lib of our own."""
        found = re.findall(rf"^{key}=(.*)$", self.file.read_text(), re.MULTILINE)
        return [re.sub(r"%S(?=/)|/var/lib(?=/)", str(self.state), value) for value in found]

    @property
    def words(self) -> list[str]:
        (command,) = self.values("ExecStart")
        program, *words = words_of(command)
        assert program == PROGRAM
        return words

    @property
    def directory(self) -> Path:
        """Where it runs: a state directory that systemd makes."""
        (named,) = self.values("StateDirectory")
        (directory,) = self.values("WorkingDirectory")
        assert directory == f"{self.state}/{named}"
        Path(directory).mkdir()
        return Path(directory)

    def environment(self, file: dict[str, str]) -> dict[str, str]:
        """EnvironmentFile over Environment, less UnsetEnvironment (systemd.exec(5))."""
        set_here = environment_of("\n".join(self.values("Environment")))
        unset = {name for value in self.values("UnsetEnvironment") for name in value.split()}
        return {name: value for name, value in {**set_here, **file}.items() if name not in unset}


@pytest.fixture
def fleet(redis_url: str, tmp_state_dir: Path) -> Iterator["Fleet"]:
    nodes = Nodes(redis_url, tmp_state_dir, host="kvm1", driver="simulated")
    with ExitStack() as stack:
        stack.callback(nodes.stop)
        yield Fleet(nodes=nodes, state=tmp_state_dir, stack=stack, flower_port=free_port(), metrics_port=free_port())


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """One Redis, and the services that were started on it."""

    nodes: Nodes
    state: Path
    stack: ExitStack
    flower_port: int
    metrics_port: int

    def files(self) -> dict[str, dict[str, str]]:
        """The two files of step 3 of "Three hosts, step by step", for this Redis; and what makes a test of it."""
        on_host = environment_of(STEP_3.partition("```")[2].partition("```")[0])
        on_host |= {"TASKVISOR_REDIS_URL": self.nodes.redis_url, "TASKVISOR_METRICS_PORT": str(self.metrics_port)}
        ours = {"TASKVISOR_ALLOW_VOLATILE_REDIS": "true", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
        central = {"TASKVISOR_REDIS_URL": self.nodes.redis_url, "TASKVISOR_HOST": "central", **ours}
        central |= {"FLOWER_BASIC_AUTH": "ops:PASSWORD", "TASKVISOR_FLOWER_PORT": str(self.flower_port)}
        state = {"TASKVISOR_DRIVER": "simulated", "TASKVISOR_STATE_DIR": f"{self.state}/taskvisor"}
        return {"/etc/taskvisor.env": {**on_host, **ours, **state}, "/etc/taskvisor-central.env": central}

    def start(self, name: str) -> Service:
        """The unit's service runs, on a read-only root where the unit says so."""
        unit = Unit(file=BY_NAME[name], state=self.state)
        (file,) = unit.values("EnvironmentFile")
        confined = (READ_ONLY_BUT,) if unit.values("ProtectSystem") == ["strict"] else ()
        return self.stack.enter_context(
            running(name, unit.words, unit.environment(self.files()[file]), unit.directory, *confined)
        )


def test_a_host_comes_up_takes_requests_and_ends_in_order(fleet: Fleet) -> None:
    worker = fleet.start("taskvisor-worker")
    fleet.nodes.wait_until_up()
    assert worker.says("both nodes are started")

    assert fleet.nodes.ask("instance.build", name="web1", image=IMAGE, flavor=SMALL)["host"] == "kvm1"
    assert status_of(f"http://127.0.0.1:{fleet.metrics_port}/metrics") == 200
    assert worker.stop() == 0
    assert fleet.nodes.incarnation() is None  # both nodes have said farewell


def test_requests_are_taken_on_a_machine_that_is_no_host(fleet: Fleet) -> None:
    for role in ("steps", "control"):
        fleet.nodes.start(role, concurrency=1)
    fleet.nodes.wait_until_up()  # requests wait in a store that knows no host
    fleet.nodes.kill("control")
    control = fleet.start("taskvisor-control")

    with pytest.raises(Refused, match="nobody"):
        fleet.nodes.send("instance.reboot", instance="nobody").get(timeout=START_LIMIT_S)
    assert control.stop() == 0


def test_beat_sends_what_is_due(fleet: Fleet) -> None:
    beat = fleet.start("taskvisor-beat")

    wait_until(lambda: beat.says("") and fleet.nodes.redis.llen("compute"), "a tick", START_LIMIT_S)
    assert beat.stop() == 0


def test_flower_asks_for_the_password_and_listens_on_loopback(fleet: Fleet) -> None:
    flower = fleet.start("taskvisor-flower")
    page = f"http://127.0.0.1:{fleet.flower_port}/tasks"

    wait_until(lambda: flower.says("") and status_of(page), "Flower to answer", START_LIMIT_S)
    assert status_of(page) == 401
    assert listening_addresses(page) == {"127.0.0.1"}
    assert flower.stop() == 0
