"""Kinds of resources are plug-ins: ours, and those of distributions that we never heard of."""

import sys
import tomllib
from pathlib import Path

import pytest

from taskvisor.compute.inventory import Ratios, inventory_for
from taskvisor.compute.resources.kind import GuestWants, ResourceChoices
from taskvisor.compute.resources.registry import GROUP, OURS, UnknownKind, open_table
from taskvisor.compute.resources.things import claim_for
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.records import Flavor, Host, Resources
from tests.compute.test_inventory import FACTS
from tests.fixtures.machine import ROOT

CHOICES = ResourceChoices()
LICENCES = """
from taskvisor.compute.resources.kind import Asked, Offered


class Licences:
    def __init__(self, choices):
        pass

    def asked(self, guest):
        wanted = int(guest.flavor.extra_specs.get("site:seats", 0))
        dongles = {"dongle": 1} if "site:dongle" in guest.image_properties else {}
        return Asked(amounts={"seats": wanted} if wanted else {}, things=dongles)

    def offered(self, host):
        return Offered(amounts={"seats": 10}, things={"dongle": ("dongle:a", "dongle:b")})


def broken(choices):
    raise RuntimeError("no driver")
"""


def distribution(site: Path, entry_points: str) -> None:
    """A distribution that is installed in `site`."""
    (site / "licences.py").write_text(LICENCES)
    info = site / "licences-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: licences\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "licences", raising=False)
    return tmp_path


def test_our_kinds_are_registered_as_a_strangers_are() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        registered = tomllib.load(file)["project"]["entry-points"][GROUP]
    assert registered == OURS


def test_ours_are_always_there() -> None:
    assert tuple(open_table((), CHOICES).kinds) == tuple(OURS)
    assert tuple(open_table(("vcpus",), CHOICES).kinds) == tuple(OURS)


def test_a_strangers_kind_is_counted_claimed_and_kept_apart(site: Path) -> None:
    distribution(site, "licences = licences:Licences")
    table = open_table(("licences",), CHOICES)
    ratios = Ratios(
        vcpu_ratio=1.0,
        memory_ratio=1.0,
        disk_ratio=1.0,
        reserved_memory_mib=0,
        reserved_disk_gib=0,
        ratios={"seats": 2.0},
        reserved={"seats": 3},
    )
    told = inventory_for(FACTS, (100, 40), ratios, 7.0, table=table)
    assert (told.total.others, told.limits.others) == ({"seats": 10}, {"seats": 17})

    flavor = Flavor(name="x", vcpus=1, memory_mib=64, disk_gib=1, extra_specs={"site:seats": "4"})
    wants = GuestWants(flavor=flavor, image_properties={"site:dongle": "yes"})
    host = Host(name=HostName("h1"), inventory=told, used=Resources(), instances=0, up=True)
    claim = claim_for(host, InstanceId("me"), wants, table, {"dongle:a": InstanceId("other")})
    assert (claim.resources.others, claim.things) == ({"seats": 4}, ("dongle:b",))


def test_a_kind_that_is_not_installed_is_refused_with_those_that_are(site: Path) -> None:
    distribution(site, "licences = licences:Licences")
    with pytest.raises(UnknownKind, match=r"no resource kind 'gpu'; known are: cells, .*licences.*, vcpus"):
        open_table(("gpu",), CHOICES)


@pytest.mark.parametrize("value", ["licences:broken", "licences:Missing", "absent:Kind"])
def test_a_kind_that_does_not_load_is_refused_by_name(site: Path, value: str) -> None:
    distribution(site, f"licences = {value}")
    with pytest.raises(UnknownKind, match=r"resource kind 'licences' \(.*\) does not load"):
        open_table(("licences",), CHOICES)


def test_two_kinds_of_one_name_are_refused(site: Path) -> None:
    distribution(site, "vcpus = licences:Licences")
    with pytest.raises(UnknownKind, match="two resource kinds are named 'vcpus'"):
        open_table((), CHOICES)
