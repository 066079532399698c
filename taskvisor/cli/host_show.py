"""`taskvisor host show`: one host, what operators said of it, its drain, and what was done to it. Reads records only."""

from collections.abc import Iterable

from taskvisor.cli.host_arguments import HostArgument
from taskvisor.cli.host_details import details_of, host_details_view
from taskvisor.cli.quantities import time_text
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_record, show_table, shows_all
from taskvisor.model.drain import Drain
from taskvisor.model.errors import Refused
from taskvisor.model.host_mark import HostEvent
from taskvisor.model.host_views import drain_view, event_view
from taskvisor.model.ids import HostName


def show(host: HostArgument, form: FormatOption = Format.TABLE) -> None:
    """Show what a host has, what of it is claimed and by whom, its last drain, and what was done to it."""
    with open_records(settings_or_usage_error()) as records:
        found = records.hosts.look_up(HostName(host))
        if found is None:
            raise Refused(f"there is no host {host!r}; see `taskvisor hosts`")
        (held,) = records.hosts.list_held([found.name])
        seen = records.drains.read(found.name)
        events = records.host_events.list_of(found.name)
    drain = None if seen is None else seen.drain
    views = [event_view(event) for event in events]
    view = {**host_details_view(found, held), "drain": None if drain is None else drain_view(drain), "events": views}
    show_record(form, (*details_of(found, held), *_drain_fields(drain)), view)
    if not shows_all(form):
        return
    if drain is not None and drain.prospects:
        rows = ((one.name, one.fate.value, one.why) for one in drain.prospects)
        show_table(("IN THE WAY", "FATE", "WHY"), rows, empty="")
    if events:
        show_table(("WHEN", "WHAT", "BY", "WHY", "OUTCOME"), map(_event_row, events), empty="")


def _drain_fields(drain: Drain | None) -> Iterable[tuple[str, str]]:
    if drain is None:
        return
    until = f"until {time_text(drain.deadline_at)}"
    ended = until if drain.ended_at is None else f"ended {time_text(drain.ended_at)}"
    yield "Drain", f"{drain.phase.value}, {ended}"
    yield "Drained by", f"{drain.by}: {drain.reason}"
    if drain.stopped:
        yield (
            "Stopped by it",
            f"{len(drain.stopped)} guests; `taskvisor host undrain {drain.host} --start-guests` starts them",
        )


def _event_row(event: HostEvent) -> tuple[str, ...]:
    return time_text(event.at), event.act.value, event.by, event.reason or "-", event.outcome
