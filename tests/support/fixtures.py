"""Fixtures that several packages of tests import into their conftest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of one host, h1, up and reported."""
    opened = Fleet(redis_url, tmp_path)
    yield opened
    opened.close()
