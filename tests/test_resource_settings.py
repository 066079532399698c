"""What an operator says of resources: read, or refused with the variable, the value and the rule."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from taskvisor.compute.resources.kind import ResourceChoices
from taskvisor.compute.resources.registry import UnknownKind
from taskvisor.settings import Settings, environment_for
from workers.choices import open_table_of, ratios_of
from workers.host import HostNode
from workers.preflight import list_problems

CHOSEN = {
    "reserved_cpus": 2,
    "resource_ratios": "gpu=2,pages_2048@0=0.5",
    "reserved_resources": "gpu=1, pages_2048@0=64",
    "guest_overhead_mib": 100,
    "dedicated_cpus": "4-7",
    "pci_devices": "8086:10FB, 0000:3b:00.0",
    "pci_aliases": "nic=8086:10fb,gpu=10DE:1db4",
}


def test_without_settings_nothing_is_chosen() -> None:
    assert open_table_of(Settings()).choices == ResourceChoices()
    assert (ratios_of(Settings()).ratios, ratios_of(Settings()).reserved) == ({}, {})


def test_settings_of_resources_are_what_the_operator_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(**CHOSEN)  # type: ignore[arg-type]
    assert open_table_of(settings).choices == ResourceChoices(
        guest_overhead_mib=100,
        dedicated_cpus=frozenset({4, 5, 6, 7}),
        pci_devices=("8086:10fb", "0000:3b:00.0"),
        pci_aliases={"nic": "8086:10fb", "gpu": "10de:1db4"},
    )
    ratios = ratios_of(settings)
    assert (ratios.reserved_cpus, ratios.reserved_of("vcpus")) == (2, 8)
    assert (ratios.ratio_of("gpu"), ratios.reserved_of("gpu"), ratios.promised("gpu", 4)) == (2.0, 1, 7)
    assert (ratios.ratio_of("seats"), ratios.reserved_of("seats")) == (1.0, 0)
    for name, value in environment_for(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("vcpu_ratio", 0, "greater than 0"),
        ("memory_ratio", 0, "greater than 0"),
        ("disk_ratio", -1, "greater than 0"),
        ("reserved_cpus", -1, "greater than or equal to 0"),
        ("resource_ratios", "gpu=0", "the ratio of gpu must be more than 0 and at most 64"),
        ("resource_ratios", "gpu=many", "the ratio of gpu must be more than 0"),
        ("resource_ratios", "gpu", "must be NAME=VALUE, each name once"),
        ("resource_ratios", "gpu=1,gpu=2", "must be NAME=VALUE, each name once"),
        ("reserved_resources", "gpu=-1", "what is reserved of gpu must be a whole number, 0 or more"),
        ("reserved_resources", "gpu=99999999999999999999", "what is reserved of gpu must be a whole number"),
        ("pci_devices", "3b:00.0", "is neither vendor:product, like 8086:10fb, nor an address, like 0000:3b:00.0"),
        ("pci_aliases", "gpu=10de", "must be a name and vendor:product, like gpu=10de:1db4"),
        ("dedicated_cpus", "7-4", "write the lower one first"),
        ("resources", "a,,b", "match pattern"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_rule(name: str, value: object, rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_a_kind_that_is_not_there_is_refused_at_the_start_and_told_by_preflight(tmp_path: Path, redis_url: str) -> None:
    settings = Settings(
        resources="gpu", driver="simulated", redis_url=redis_url, state_dir=tmp_path, allow_volatile_redis=True
    )
    with pytest.raises(UnknownKind):
        open_table_of(settings)
    node = HostNode.__new__(HostNode)
    node.settings = settings
    with pytest.raises(
        SystemExit, match=r"does not start: TASKVISOR_RESOURCES: there is no resource kind 'gpu'; known are:"
    ):
        node.check_plugins()
    assert any("there is no resource kind 'gpu'" in problem for problem in list_problems(settings))
