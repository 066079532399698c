"""`taskvisor top`: hosts, operations and instances, live on the whole terminal. Reads records and measurements; asks nobody."""

import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Annotated, TypeVar

import typer
from rich.live import Live

from taskvisor.cli.exits import UsageError
from taskvisor.cli.keyboard import Keyboard, open_keyboard
from taskvisor.cli.records import Records, open_records, settings_or_usage_error
from taskvisor.cli.render import out
from taskvisor.cli.top_view import Order, Picture, drawing_of
from taskvisor.model.errors import CannotAsk

ROWS_LIMIT = 5000
"""Of instances and of operations: no terminal shows more, and a look must not take long."""
PROGRESS_LIMIT = 50

T = TypeVar("T")


def top(
    every: Annotated[
        float, typer.Option("--every", "-d", min=0.5, max=3600, metavar="SECONDS", help="How often it is looked.")
    ] = 2.0,
) -> None:
    """Watch hosts, operations and instances on the whole terminal. s sorts by the next of name, CPU, age, state; q leaves."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or out().is_dumb_terminal:
        raise UsageError("top: needs a terminal; for scripts: `hosts`, `list`, `ops list` and `monitor`, with -f json")
    with open_records(settings_or_usage_error(), on_unreadable=lambda _: None) as records:
        picture = read_picture(records)  # what is wrong with Redis is said before the screen is taken
        with open_keyboard() as keyboard:
            _watch(records, keyboard, picture, every)


def read_picture(records: Records) -> Picture:
    """The fleet as it is now: a handful of round trips, whatever its size."""
    hosts = records.hosts.list_hosts()
    instances = _first(records.catalog.list_instances())
    operations = (*_first(records.catalog.list_stuck()), *_first(records.catalog.list_under_way(limit=ROWS_LIMIT)))
    known = {one.id: one for one in operations}
    running = [one.id for one in known.values() if one.runner is not None][:PROGRESS_LIMIT]
    progress = {one: found for one in running if (found := records.catalog.read_progress(one)) is not None}
    return Picture(
        at=time.time(),
        hosts=hosts,
        instances=instances,
        operations=tuple(known.values()),
        progress=progress,
        host_samples=records.series.list_latest_of_hosts([host.name for host in hosts]),
        instance_samples=records.series.list_latest_of_instances([one.id for one in instances]),
    )


def _first(found: Iterable[T]) -> tuple[T, ...]:
    return tuple(islice(found, ROWS_LIMIT))


def _watch(records: Records, keyboard: Keyboard, picture: Picture, every_s: float) -> None:
    """Until q or ctrl-C. A Redis that is silent meanwhile is told, and looked for again."""
    console, order = out(), Order.NAME
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            due = time.monotonic() + every_s
            while True:
                size = console.size
                live.update(drawing_of(picture, order, width=size.width, height=size.height), refresh=True)
                key = keyboard.wait(max(0.0, due - time.monotonic()))
                if key == "q":
                    return
                if key == "s":
                    order = order.next
                if time.monotonic() >= due:
                    picture = _read_again(records, picture)
                    due = time.monotonic() + every_s
    except (KeyboardInterrupt, EOFError):
        return


def _read_again(records: Records, before: Picture) -> Picture:
    try:
        return read_picture(records)
    except CannotAsk as silence:
        return replace(before, problem=str(silence))
