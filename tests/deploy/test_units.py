"""The systemd units, as systemd reads them."""

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.main import get_command

from taskvisor.cli.app import app
from tests.fixtures.machine import ROOT, require_tool

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
EXPOSURE_LIMITS = {"taskvisor-worker": 8.0, "taskvisor-beat": 2.0, "taskvisor-flower": 2.0, "taskvisor-control": 2.0}
"""By `systemd-analyze security`: 0 is shut in, 10 is root without a fence. Who makes links, disks and guests can't be shut in."""


def section(unit: Path) -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return dict(parser["Service"])


def test_there_is_a_unit_for_each_service() -> None:
    assert {unit.stem for unit in UNITS} == set(EXPOSURE_LIMITS)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_all_of_it(unit: Path, tmp_path: Path) -> None:
    require_tool("systemd-analyze")
    here = tmp_path / unit.name  # the program that it starts is not installed here
    here.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, timeout=120, check=False
    )

    ours = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_may_touch_no_more_than_it_needs(unit: Path) -> None:
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_LIMITS[unit.stem]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_command_that_there_is(unit: Path) -> None:
    program, command = section(unit)["ExecStart"].split()

    assert program.endswith("/bin/taskvisor")
    assert command in get_command(app).commands  # type: ignore[attr-defined]


def test_a_restart_of_the_worker_ends_no_guest_and_no_dnsmasq() -> None:
    (worker,) = (unit for unit in UNITS if unit.stem == "taskvisor-worker")
    assert section(worker)["KillMode"] == "process"
