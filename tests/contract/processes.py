"""Calls made by several processes at once, as the pool children of one host make them."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from taskvisor.model.errors import Retryable

PROCESSES = 2
LIMIT_S = 120.0


def repeat_at_once(open_port: Callable[[], object], calls: Sequence[tuple[str, tuple[object, ...]]]) -> list[str]:
    """Each of several processes opens the port and makes the calls, in order. Returns the Retryable errors it met.

    Spawned, not forked: a fork would share the test's connections. Any other error fails the test.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Manager().Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        futures = [pool.submit(_make_calls, open_port, list(calls), barrier) for _ in range(PROCESSES)]
        return [said for future in futures for said in future.result(LIMIT_S)]


def _make_calls(
    open_port: Callable[[], object], calls: Sequence[tuple[str, tuple[object, ...]]], barrier: "object"
) -> list[str]:
    port = open_port()
    barrier.wait(LIMIT_S)  # type: ignore[attr-defined]  # the proxy of a Manager's Barrier
    met = []
    for verb, arguments in calls:
        try:
            getattr(port, verb)(*arguments)
        except Retryable as error:
            met.append(f"{verb}: {error}")
    return met
