"""Builds, snapshots and deletes of guests whose disks are no overlays: the worker dies at every call, as in test_crashes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.build import BuildFlow
from tasks.delete import DeleteFlow
from tasks.snapshot import SnapshotFlow
from taskvisor.flow.step import Flow
from taskvisor.model.disk_backend import BackendKind, DiskBackend
from taskvisor.model.operator import OperatorChoices
from taskvisor.model.states import Phase
from tests.support.crash_fixtures import no_logs
from tests.support.fleet import Fleet
from tests.support.harness import OPERATION, Harness, end_of, recover
from tests.support.spies import DieAt
from tests.support.world import world_of

__all__ = ["no_logs"]

pytestmark = pytest.mark.crash

BACKENDS = [DiskBackend(kind=BackendKind.RAW), DiskBackend(kind=BackendKind.LVM, pool="guests")]
"""Files, and what lies apart from the instance's directory: to a simulated host a Ceph pool is as a volume group."""


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.kind)
def choices(request: pytest.FixtureRequest) -> OperatorChoices:
    """What the operator of the fleet's hosts chose."""
    return OperatorChoices(disk_backend=request.param)


@pytest.fixture(params=[BuildFlow(), SnapshotFlow(), DeleteFlow()], ids=lambda flow: flow.name)
def flow(request: pytest.FixtureRequest) -> Flow:
    chosen: Flow = request.param
    return chosen


@pytest.fixture
def build(redis_url: str, memory_dir: Path, choices: OperatorChoices) -> Iterator[Harness]:
    """A harness for the build."""
    opened = Harness(BuildFlow(), redis_url, memory_dir, choices=choices)
    yield opened
    opened.close()


def test_a_worker_that_dies_anywhere_is_carried_on_to_the_unharmed_end(
    flow: Flow, redis_url: str, memory_dir: Path, choices: OperatorChoices
) -> None:
    harness = Harness(flow, redis_url, memory_dir, choices=choices)
    unharmed = harness.unharmed()

    def then(fleet: Fleet, death: DieAt) -> None:
        recover(fleet)
        assert end_of(fleet) == unharmed, f"after it died {death.died_at}"

    assert harness.die_everywhere(then) >= 2 * 3 * len(flow.steps)
    assert unharmed.outcome["phase"] == "succeeded"
    harness.close()


def test_a_build_that_died_anywhere_and_is_cancelled_leaves_nothing(build: Harness) -> None:
    before = world_of(build.open_fleet())

    def then(fleet: Fleet, death: DieAt) -> None:
        fleet.door.cancel(OPERATION)
        recover(fleet)
        if fleet.read(OPERATION).phase is not Phase.SUCCEEDED:
            assert world_of(fleet) == before, f"after it died {death.died_at}"

    assert build.die_everywhere(then) >= 30


def test_a_build_that_died_anywhere_and_is_deleted_leaves_nothing(build: Harness) -> None:
    before = world_of(build.open_fleet())

    def then(fleet: Fleet, death: DieAt) -> None:
        fleet.begin("instance.delete", "the-delete", instance="web")
        recover(fleet)
        assert world_of(fleet) == before, f"after it died {death.died_at}"

    assert build.die_everywhere(then) >= 30
