"""The simulated fabric beyond its port's contract (tests/contract): deaths at any file operation, a host that is away."""

from pathlib import Path

import pytest

from net.simulated import SimulatedFabric, SimulatedNeighbour
from taskvisor.model.errors import CannotAsk
from tests.fixtures.deaths import die_everywhere
from tests.net.plans import vif


def files(root: Path) -> list[str]:
    """All but locks, which stay."""
    return [path.name for path in root.rglob("*") if path.is_file() and path.parent.name != "locks"]


def test_a_plug_and_unplug_that_died_anywhere_are_done_again(tmp_path: Path) -> None:
    def life() -> None:
        SimulatedFabric(tmp_path).ensure_plugged(vif(0))
        SimulatedFabric(tmp_path).ensure_unplugged(vif(0))

    def done_again() -> None:
        SimulatedFabric(tmp_path).ensure_unplugged(vif(0))
        assert SimulatedNeighbour(tmp_path).list_names() == ()
        SimulatedFabric(tmp_path).ensure_plugged(vif(0))
        assert set(SimulatedNeighbour(tmp_path).list_names()) == {vif(0).tap, vif(0).bridge}
        SimulatedFabric(tmp_path).ensure_unplugged(vif(0))
        assert files(tmp_path) == []

    assert die_everywhere(life, done_again) > 10


def test_a_host_that_is_away_is_not_an_empty_one(tmp_path: Path) -> None:
    fabric = SimulatedFabric(tmp_path / "host")
    (tmp_path / "host").rename(tmp_path / "away")
    with pytest.raises(CannotAsk):
        fabric.list_links()
    with pytest.raises(CannotAsk):
        fabric.ensure_plugged(vif(0))
    with pytest.raises(CannotAsk):
        fabric.ensure_unplugged(vif(0))


def test_links_that_cannot_be_looked_up_are_not_gone(tmp_path: Path) -> None:
    """An unplug that took them for gone would report success, and leave them behind."""
    fabric = SimulatedFabric(tmp_path)
    fabric.ensure_plugged(vif(0))
    (tmp_path / "links").rename(tmp_path / "away")

    with pytest.raises(CannotAsk):
        fabric.ensure_unplugged(vif(0))
