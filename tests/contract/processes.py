"""Calls made by several processes at once, as the pool children of one host make them."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.synchronize import Barrier

from taskvisor.model.errors import Busy, Retryable

LIMIT_S = 120.0

# multiprocessing's helper process outlives its users: it is to live outside of the test's host, whichever test comes first.
resource_tracker.ensure_running()

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
    barrier = context.Barrier(len(calls_of))
    with ProcessPoolExecutor(len(calls_of), mp_context=context, initializer=_meet_at, initargs=(barrier,)) as pool:
        for future in [pool.submit(_make_calls, open_port, list(calls), passed_over) for calls in calls_of]:
            future.result(LIMIT_S)


_barriers: list[Barrier] = []
"""Of a process that makes calls: where it waits for the others. Such a thing can be given to a process that starts only."""


def _meet_at(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _make_calls(open_port: Callable[[], object], calls: Calls, passed_over: tuple[type[Exception], ...]) -> None:
    port = open_port()
    _barriers[0].wait(LIMIT_S)
    for verb, arguments in calls:
        try:
            getattr(port, verb)(*arguments)
        except passed_over:
            continue
