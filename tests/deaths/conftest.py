"""Installations that die in tests, and the account of what they survived."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deaths.hosts import Installation, running_installation
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.namespaces import entered_namespace

SURVIVED = "survived"


@pytest.fixture(scope="module")
def real_installation(libvirtd: Libvirtd) -> Iterator[Installation]:
    """One host with libvirt and QEMU, whose guests and links are in the session's network namespace."""
    with (
        entered_namespace(libvirtd.namespace),
        running_installation(["libvirt"], libvirtd, redis_timeout_s=3) as installation,
    ):
        yield installation


@pytest.fixture(scope="module")
def simulated_installation() -> Iterator[Installation]:
    """Two hosts whose guests are small files."""
    with running_installation(["simulated", "simulated"], step_concurrency=2) as installation:
        yield installation


@pytest.fixture(scope="session")
def blank_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk that nothing boots from: the guest runs, and costs next to nothing."""
    path = tmp_path_factory.mktemp("images") / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Per test, which names the kind of death, how many were survived, and by what."""
    told = [
        (report.nodeid.rpartition("::")[2], value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == SURVIVED and report.when == "call"
    ]
    if told:
        terminalreporter.section("deaths survived")
    for test, value in told:
        terminalreporter.line(f"{test}: {value}")
