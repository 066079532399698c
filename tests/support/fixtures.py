"""Fixtures that several packages of tests import into their conftest."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet


@pytest.fixture
def memory_dir() -> Iterator[Path]:
    """A directory in memory: making and removing thousands of small files costs nothing there."""
    with tempfile.TemporaryDirectory(prefix="tvt-", dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def fleet(redis_url: str, memory_dir: Path) -> Iterator[Fleet]:
    """A fleet of one host, h1, up and reported."""
    opened = Fleet(redis_url, memory_dir)
    yield opened
    opened.close()
