"""A script for toy steps, and a bench to run them on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.toys import Bench, Script, toy_step
from tests.support.fixtures import memory_dir

__all__ = ["memory_dir"]

OpenBench = Callable[..., Bench]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def open_bench(redis_url: str, memory_dir: Path, script: Script) -> Iterator[OpenBench]:
    """`open_bench(*steps, **flow)`: a bench for a flow of these steps; of a, b and c when none are given."""
    opened: list[Bench] = []

    def open_it(*steps: Any, **flow: Any) -> Bench:
        chosen = steps or tuple(toy_step(name, script) for name in "abc")
        opened.append(Bench(redis_url, memory_dir, script, *chosen, **flow))
        return opened[-1]

    yield open_it
    for bench in opened:
        bench.fleet.close()


@pytest.fixture
def bench(open_bench: OpenBench) -> Bench:
    """A bench for a flow of three steps, a, b and c."""
    return open_bench()
