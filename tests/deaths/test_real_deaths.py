"""Real workers, a real Redis, real libvirt and QEMU.

Each kind of death strikes once, in one round. With TASKVISOR_DEATHS=n there is a round for each kind as well, in which it
strikes n times. TASKVISOR_DEATHS_SEED is another sequence of requests and moments.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.deaths.blows import Death
from tests.deaths.conftest import SURVIVED
from tests.deaths.hosts import Installation
from tests.deaths.trial import run_round

DEATHS = int(os.environ.get("TASKVISOR_DEATHS", "0"))
SEED = int(os.environ.get("TASKVISOR_DEATHS_SEED", "1"))
DEATHS_A_LIFE = 6
"""So many deaths meet one life of each of the ten guests."""
TINY = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}
ROUNDS: Mapping[str, Sequence[Death]] = {
    "each-once": Random(SEED).sample(list(Death), len(Death)),
    **({str(death): [death] * DEATHS for death in Death} if DEATHS else {}),
}

pytestmark = [pytest.mark.real, pytest.mark.timeout(600 + 60 * DEATHS)]


@pytest.mark.parametrize("name", ROUNDS)
def test_ten_at_a_time_go_on_whatever_dies(
    real_installation: Installation, blank_image: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    deaths = ROUNDS[name]

    survived = run_round(
        real_installation,
        deaths,
        name=name,
        seed=SEED,
        lives=-(-len(deaths) // DEATHS_A_LIFE),
        build={"image": str(blank_image), "flavor": TINY},
    )

    record_property(SURVIVED, str(survived))
    assert survived.deaths > 0
