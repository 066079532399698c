"""`taskvisor events`: what changed in the fleet, from a cursor or a time on, and as it goes on."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from taskvisor.cli.quantities import time_text
from taskvisor.cli.records import Records, complete_host, complete_instance, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, say, show_as_it_comes
from taskvisor.cli.since import cursor_for
from taskvisor.model.errors import CannotAsk, Unauthorised
from taskvisor.model.event import Event, EventKind, event_view
from taskvisor.state.events import FROM_NOW, FROM_OLDEST

BATCH = 500
SILENCE_LIMIT_S = 30.0
SILENCE_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which events are shown; what is empty does not matter. `instance` is a name or an id."""

    instance: str = ""
    host: str = ""
    operation: str = ""

    def takes(self, event: Event) -> bool:
        return (
            self.instance in ("", event.instance_id, event.instance_name)
            and self.host in ("", event.host)
            and event.operation_id.startswith(self.operation)
        )


def events(
    since: Annotated[
        str | None,
        typer.Option(
            help="After this cursor, or from this time on: 15m, 2h, 2026-11-21T14:00, now."
            " Without it all that is kept; with --follow what comes."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until ctrl-C.")] = False,
    instance: Annotated[
        str, typer.Option(metavar="N", help="Only of this instance, by name or id.", autocompletion=complete_instance)
    ] = "",
    host: Annotated[
        str, typer.Option(metavar="H", help="Only of what happened on this host.", autocompletion=complete_host)
    ] = "",
    operation: Annotated[
        str, typer.Option(metavar="ID", help="Only of this operation, by its id or the beginning of it.")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the stream of events; as JSON one object a line, each with the cursor to go on from."""
    wanted = Wanted(instance=instance, host=host, operation=operation)
    cursor = cursor_for(since or ("now" if follow else "0"), time.time())
    with open_records(settings_or_usage_error()) as records:
        reading = Reading(records=records, cursor=_resolved(records, cursor))
        with suppress(KeyboardInterrupt):
            for event in reading.following() if follow else reading.kept():
                if wanted.takes(event):
                    _show(event, form)
    if form is Format.TABLE and reading.cursor != FROM_OLDEST:
        say(f"Go on with: taskvisor events --since {reading.cursor}" + (" --follow" if follow else ""))


def _resolved(records: Records, cursor: str) -> str:
    """`now` is after what is newest now: asked anew each time, it would leave out what came in between."""
    bounds = records.events.read_bounds()
    return bounds.newest if cursor == FROM_NOW else cursor


@dataclass(kw_only=True)
class Reading:
    """A walk along the stream. `cursor` is that of the last event that was handed out, or where it began."""

    records: Records
    cursor: str

    def kept(self) -> Iterator[Event]:
        """Those that are there now. Says what may be missing before them."""
        last = self.records.events.read_bounds().newest
        while fresh := self._read(wait_s=0):
            for event in fresh:
                self.cursor = event.cursor
                yield event
            if fresh[-1].cursor == last:
                return

    def following(self) -> Iterator[Event]:
        """Those, and what comes. CannotAsk when Redis was silent for SILENCE_LIMIT_S; Unauthorised at once."""
        silent_since: float | None = None
        while True:
            fresh: tuple[Event, ...] = ()
            try:
                fresh = self._read(wait_s=self.records.event_wait_limit_s)
                silent_since = None
            except Unauthorised:
                raise
            except CannotAsk as silence:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > SILENCE_LIMIT_S:
                    raise CannotAsk(f"{silence} The last event was {self.cursor}: go on with --since") from silence
                time.sleep(SILENCE_PAUSE_S)
            for event in fresh:
                self.cursor = event.cursor
                yield event

    def _read(self, *, wait_s: float) -> tuple[Event, ...]:
        """The next ones; what the stream let go before they could be read is told first."""
        missed = self.records.events.read_bounds().missed_after(self.cursor) if self.cursor != FROM_OLDEST else ""
        fresh = self.records.events.read_after(self.cursor, wait_s=wait_s, limit=BATCH)
        if missed and fresh:
            say(f"{missed}: the stream keeps nothing before {fresh[0].cursor} (TASKVISOR_EVENTS_KEPT)")
        return fresh


def _show(event: Event, form: Format) -> None:
    cells = dict(zip(("WHEN", "WHAT", "SUBJECT", "PHASE", "MORE"), _cells(event), strict=True))
    show_as_it_comes(form, cells, event_view(event))


def _cells(event: Event) -> tuple[str, ...]:
    subject = event.host if event.kind is EventKind.HOST else f"{event.instance_name} on {event.host}"
    words = []
    if event.outcome:
        words.append(f"{event.tried} {event.outcome}".strip())
    elif event.step:
        words.append(f"{event.step} {event.number}/{event.of}" if event.of else event.step)
    if event.by or event.reason:
        words.append(f"({', '.join(filter(None, (event.by and f'by {event.by}', event.reason)))})")
    return (time_text(event.at), event.flow, subject, event.phase, "  ".join(words))
