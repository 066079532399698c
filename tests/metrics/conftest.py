"""A fleet, and what reads its store for Prometheus."""

import pytest

from tests.support.fixtures import fleet, memory_dir
from tests.support.fleet import KEYS, Fleet
from workers.metrics import StoreCollector

__all__ = ["fleet", "memory_dir"]


@pytest.fixture
def collector(fleet: Fleet) -> StoreCollector:
    return StoreCollector(fleet.client, KEYS, fleet.clock.now)
