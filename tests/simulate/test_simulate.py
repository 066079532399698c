"""A few seeds in every test run; `make simulate` runs as many as one likes. And: one seed is one run."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.fixtures.machine import ROOT
from tests.simulate.faults import ALL_FAULTS
from tests.simulate.simulation import Broken, Ended, Simulation
from tests.support.fixtures import memory_dir

__all__ = ["memory_dir"]

pytestmark = pytest.mark.crash

EVENTS = 150
SEEDS = tuple(range(1, 41))
AGAIN_LIMIT_S = 240


@pytest.fixture(autouse=True, scope="module")
def no_logs() -> Iterator[None]:
    """A run that breaks tells its own story."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_goes_wrong_breaks_an_invariant(seed: int, redis_url: str, memory_dir: Path) -> None:
    ended = Simulation(seed, redis_url, memory_dir).run(EVENTS)

    assert isinstance(ended, Ended), f"{ended.invariant}: python -m tests.simulate --seed {seed} -v"
    assert ended.events >= EVENTS


def test_without_faults_every_invariant_holds(redis_url: str, memory_dir: Path) -> None:
    ended = Simulation(1, redis_url, memory_dir, without=frozenset(ALL_FAULTS)).run(EVENTS)

    assert isinstance(ended, Ended), ended.invariant


def test_a_broken_invariant_ends_the_run_with_its_last_events(redis_url: str, memory_dir: Path) -> None:
    simulation = Simulation(1, redis_url, memory_dir, without=frozenset(ALL_FAULTS))

    def corrupt() -> None:
        simulation.fleet.client.hset("taskvisor:used:h1", "vcpus", 99)

    simulation.agenda.after(30.0, corrupt)

    broken = simulation.run(EVENTS)

    assert isinstance(broken, Broken)
    assert "99 of vcpus are used" in broken.invariant
    assert broken.last


@pytest.mark.timeout(2 * AGAIN_LIMIT_S)
def test_one_seed_is_one_run_whatever_the_order_of_sets() -> None:
    """In processes whose hashes of strings differ, with servers of their own."""
    first, second = (_digest_with(hash_seed) for hash_seed in ("1", "2"))

    assert first == second


def _digest_with(hash_seed: str) -> str:
    """The whole of what a run tells, its digest last."""
    argv = [sys.executable, "-m", "tests.simulate", "--seed", "5", "--events", "200", "-v"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    with tempfile.TemporaryDirectory(prefix="tvt-") as directory:
        environment["TMPDIR"] = directory
        done = subprocess.run(
            argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=AGAIN_LIMIT_S, check=False
        )
    told = done.stdout.splitlines()
    assert told[-2].startswith("digest "), done.stdout[-2000:] + done.stderr[-2000:]
    return "\n".join(told[:-1])
