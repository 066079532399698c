"""A host with our fabric on it. After each test: nothing of ours is left on the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from net.fabric import LinuxFabric
from tests.net.hosts import EMPTY, read_world


@pytest.fixture
def state_dir(host_namespace: str, tmp_state_dir: Path) -> Iterator[Path]:
    """The state directory of a host in a fresh network namespace. The test unplugs what it plugged."""
    tmp_state_dir.chmod(0o755)  # dnsmasq is an unprivileged user
    yield tmp_state_dir
    assert read_world(tmp_state_dir) == EMPTY


@pytest.fixture
def fabric(state_dir: Path) -> LinuxFabric:
    """The fabric of that host, as this process sees it."""
    return LinuxFabric(state_dir)
