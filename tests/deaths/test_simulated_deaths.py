"""The same with simulated guests on two hosts: many more deaths, of all kinds mixed. See test_real_deaths.py."""

import os
from collections.abc import Callable
from random import Random

import pytest

from tests.deaths.blows import Death
from tests.deaths.conftest import SURVIVED
from tests.deaths.hosts import Installation
from tests.deaths.trial import run_round

DEATHS = max(12, 10 * int(os.environ.get("TASKVISOR_DEATHS", "0")))
SEED = int(os.environ.get("TASKVISOR_DEATHS_SEED", "1"))
KINDS = [death for death in Death if death is not Death.LIBVIRTD]
SMALL = {"vcpus": 1, "memory_mib": 64, "disk_gib": 1}

pytestmark = [pytest.mark.real, pytest.mark.timeout(300 + 20 * DEATHS)]


def test_two_hosts_go_on_whatever_dies(
    simulated_installation: Installation, record_property: Callable[[str, object], None]
) -> None:
    chance = Random(SEED)

    survived = run_round(
        simulated_installation,
        [chance.choice(KINDS) for _ in range(DEATHS)],
        name="mixed",
        seed=SEED,
        lives=DEATHS,
        build={"image": "simulated://debian?virtual_gib=1", "flavor": SMALL},
    )

    record_property(SURVIVED, str(survived))
    assert survived.deaths > 0
