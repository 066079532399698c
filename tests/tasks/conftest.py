"""Simulated fleets, of one host and of three."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import fleet, memory_dir
from tests.support.fleet import Fleet

__all__ = ["fleet", "memory_dir"]


@pytest.fixture
def three_hosts(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """h1 has most memory, then h2, then h3."""
    memory_mib = {"h1": 4096, "h2": 2048, "h3": 1024}
    opened = Fleet(redis_url, memory_dir, hosts=("h1", "h2", "h3"), memory_mib=memory_mib)
    yield opened
    opened.close()
