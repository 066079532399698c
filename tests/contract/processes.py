"""Calls made by several processes at once, as the pool children of one host make them."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from threading import Barrier

from taskvisor.model.errors import Busy, Retryable

LIMIT_S = 120.0

Calls = Sequence[tuple[str, tuple[object, ...]]]
"""Verbs of a port with their arguments, in order."""


def repeat_at_once(
    open_port: Callable[[], object],
    calls_of: Sequence[Calls],
    *,
    passed_over: tuple[type[Exception], ...] = (Busy, Retryable),
) -> None:
    """As many processes as there are sequences open the port each, wait for one another, and make their calls.

    Busy and Retryable are honest answers to who comes at a bad moment; an error that is not `passed_over` fails the test.
    Spawned, not forked: a fork would share the test's connections.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(calls_of), mp_context=context) as pool:
        barrier = manager.Barrier(len(calls_of))
        for future in [pool.submit(_make_calls, open_port, list(calls), barrier, passed_over) for calls in calls_of]:
            future.result(LIMIT_S)


def _make_calls(
    open_port: Callable[[], object], calls: Calls, barrier: Barrier, passed_over: tuple[type[Exception], ...]
) -> None:
    port = open_port()
    barrier.wait(LIMIT_S)
    for verb, arguments in calls:
        try:
            getattr(port, verb)(*arguments)
        except passed_over:
            continue
