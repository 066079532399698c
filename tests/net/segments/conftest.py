"""Hosts on one switch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.lan import LanHost, open_lan


@pytest.fixture
def lan(tmp_state_dir: Path) -> Iterator[tuple[LanHost, ...]]:
    """Three hosts at 192.0.2.1 to .3. A test unplugs what it plugged."""
    tmp_state_dir.chmod(0o755)  # dnsmasq is an unprivileged user
    with open_lan(tmp_state_dir, 3) as hosts:
        yield hosts
