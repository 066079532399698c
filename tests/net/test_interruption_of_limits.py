"""A process that dies anywhere while it plugs or unplugs a port with limits: the same tests as of one without."""

from dataclasses import replace
from pathlib import Path

import pytest

from net.filters import diversion
from net.plan import vif_plan_for
from taskvisor.model.network import Bandwidth, Qos, Surroundings
from taskvisor.model.plan import VifPlan
from tests.net import test_interruption as interruption
from tests.net.hosts import EMPTY, read_world
from tests.net.plans import network, port
from tests.net.test_interruption import Case

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

BOTH = Qos(inbound=Bandwidth(average_kib_s=700), outbound=Bandwidth(average_kib_s=900, peak_kib_s=1800))


def limited() -> VifPlan:
    on = network(dhcp=False)
    return vif_plan_for(replace(port(0, on), qos=BOTH), on, hostname="web-0")


@pytest.fixture
def case(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(interruption, "DANGEROUS", (*interruption.DANGEROUS, (diversion, "run_command")))
    around = Surroundings(network=network(dhcp=False))
    return Case(state_dir=state_dir, nic=limited(), around=around, before=read_world(state_dir))


def test_a_plug_that_died_anywhere_is_finished_by_the_next(case: Case) -> None:
    interruption.test_a_plug_that_died_anywhere_is_finished_by_the_next(case)


def test_an_unplug_that_died_anywhere_is_finished_by_the_next(case: Case) -> None:
    interruption.test_an_unplug_that_died_anywhere_is_finished_by_the_next(case)


def test_limits_lifted_by_a_process_that_died_anywhere_are_lifted_by_the_next(case: Case, state_dir: Path) -> None:
    free = replace(case, nic=replace(case.nic, qos=None))
    free.plug()
    unlimited = case.read()
    for _ in interruption.deaths(case, free.plug, before=case.plug):
        free.plug()
        assert case.read() == unlimited
    assert read_world(state_dir) == EMPTY
