"""What every module of crash tests stands on: a harness for each flow, and quiet."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tasks.flows import ALL_FLOWS
from tests.support.harness import Harness


@pytest.fixture(autouse=True, scope="module")
def no_logs() -> Iterator[None]:
    """Thousands of runs: each failure here names the moment, and the run can be made again alone."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(params=ALL_FLOWS, ids=lambda flow: flow.name)
def harness(request: pytest.FixtureRequest, redis_url: str, memory_dir: Path) -> Iterator[Harness]:
    """A harness for each flow."""
    opened = Harness(request.param, redis_url, memory_dir)
    yield opened
    opened.close()
