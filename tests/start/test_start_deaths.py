"""A node that is killed anywhere in its start is made good by its next start: the same identity, and all work carried on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest
from celery import Celery

from taskvisor.cli.nodes import nodes_of
from taskvisor.model.ids import HostName
from taskvisor.model.states import VmState
from taskvisor.model.urls import celery_url_for
from taskvisor.state.identities import Identities
from tests.deaths.hosts import Installation, MortalHost, idle_installation
from tests.deaths.remains import problems_of
from tests.fixtures.machine import ROOT
from tests.start.dying_node import POINTS
from tests.system.nodes import wait_until
from workers.identity_file import read_identity

pytestmark = pytest.mark.real
LIMIT_S = 300.0
BUILD = {
    "name": "web",
    "image": "simulated://debian?virtual_gib=1",
    "flavor": {"vcpus": 1, "memory_mib": 16, "disk_gib": 1},
}


@pytest.fixture
def one_host() -> Iterator[Installation]:
    """A simulated host that has never been started, and a build that waits for it."""
    with idle_installation(["simulated"]) as installation:
        yield installation


def die_at(host: MortalHost, point: str) -> None:
    """A worker that is both nodes starts, and is killed there."""
    program = nodes_of(host.settings)[0]
    words = list(program.argv[program.argv.index("workers") + 1 :])
    words[words.index("-Q") + 1] = f"host.{host.name},host.{host.name}.control,compute"
    with host.log.open("ab") as log:
        died = subprocess.run(
            [sys.executable, "-m", "tests.start.dying_node", point, *words],
            env={**program.environment, "PYTHONPATH": str(ROOT)},
            cwd=program.directory,
            stdout=log,
            stderr=log,
            timeout=LIMIT_S,
            check=False,
        )
    assert died.returncode == -9, f"{point} was not come to: {host.log_tail()}"


def identities_of(installation: Installation, host: MortalHost) -> tuple[str | None, str | None]:
    """By the file, and by the store."""
    kept = read_identity(host.settings.state_dir)
    record = Identities(installation.redis, installation.keys).read(HostName(host.name)).record
    return None if kept is None else kept.id, None if record is None else record.id


def test_a_node_that_is_killed_at_every_point_of_its_start_gets_there_in_the_end(one_host: Installation) -> None:
    """Again and again over one state directory: each start finds what the one before has left, and comes one point further."""
    host, seen = one_host.hosts[0], set[str]()
    with closing(Celery("producer", broker=celery_url_for(one_host.server.url()), set_as_current=False)) as producer:
        producer.send_task("instance.build", kwargs=BUILD, queue="compute", task_id="the-build")
    for name, moment in product(POINTS, ("before", "after")):
        die_at(host, f"{moment}-{name}")
        seen |= {one for one in identities_of(one_host, host) if one is not None}
    (identity,) = seen

    one_host.start()

    def is_built() -> bool:
        found = one_host.catalog.find_instance("web")
        return found is not None and found.vm_state is VmState.ACTIVE

    wait_until(is_built, "the build to end", limit_s=LIMIT_S)
    assert identities_of(one_host, host) == (identity, identity)
    wait_until(lambda: problems_of(one_host, ["web"]) == [], "nothing to be left over", limit_s=LIMIT_S)
