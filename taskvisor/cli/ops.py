"""`taskvisor ops`: operations, what became of each of their steps, and what to do with those that are not done."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Annotated

import typer

from taskvisor.cli.exits import ExitCode
from taskvisor.cli.follow import WAIT_LIMIT_S, follow_one, watch_requests
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.quantities import age_text, clock_text, seconds_text, time_text
from taskvisor.cli.records import Records, complete_operation, open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import (
    Format,
    FormatOption,
    out,
    say,
    say_error,
    show_record,
    show_rows,
    show_table,
    shown_id,
    shows_all,
    worded,
)
from taskvisor.cli.views import operation_view
from taskvisor.cli.watch import Request
from taskvisor.cli.why import show_refusals
from taskvisor.client import Taskvisor
from taskvisor.model.build_result import build_results_of
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Operation, TimelineEntry
from taskvisor.model.states import Phase

WISH_LIMIT_S = 30.0
"""A wish is a matter of one look by a control node."""
VERBS = {
    "instance.build": "launch",
    "instance.delete": "delete",
    "instance.start": "start",
    "instance.stop": "stop",
    "instance.reboot": "reboot",
    "instance.snapshot": "snapshot",
    "instance.attach_volume": "attach_volume",
    "instance.detach_volume": "detach_volume",
    "instance.attach_interface": "attach_interface",
    "instance.detach_interface": "detach_interface",
}

COLUMNS = ("ID", "WHAT", "INSTANCE", "PHASE", "STEP", "AGE", "HOST")
STUCK_COLUMNS = ("ID", "WHAT", "INSTANCE", "HOST", "STEP", "LEFT ALONE", "WHY", "SINCE")

OperationArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="The operation's id, or the beginning of it.", autocompletion=complete_operation),
]

app = typer.Typer(help="Operations: what was asked, how far it is, what became of it.", no_args_is_help=True)


@app.command("list")
def list_operations(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="So many of the latest.")] = 20,
    stuck: Annotated[bool, typer.Option("--stuck", help="All that are stuck, of any age, the longest first.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the latest operations, newest first; or those that wait for a person."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.list_stuck() if stuck else records.catalog.list_operations(limit)
    views = [operation_view(operation) for operation in found]
    if stuck:
        show_rows(form, STUCK_COLUMNS, map(_stuck_row, found), views, empty="No operation is stuck.")
    else:
        show_rows(form, COLUMNS, map(_operation_row, found), views, empty="No operations are known.")


def _operation_row(operation: Operation) -> tuple[str, ...]:
    return (
        shown_id(operation.id),
        operation.flow.removeprefix("instance."),
        operation.instance_name,
        operation.phase.value,
        _step_text(operation),
        age_text(time.time() - operation.created_at),
        operation.host,
    )


def _stuck_row(operation: Operation) -> tuple[str, ...]:
    since = operation.settled_at if operation.settled_at is not None else operation.updated_at
    return (
        shown_id(operation.id),
        operation.flow.removeprefix("instance."),
        operation.instance_name,
        operation.host,
        _step_text(operation),
        ", ".join(operation.left_alone) or "nothing",
        f"{operation.failure.code}: {operation.failure.message}" if operation.failure else "-",
        age_text(time.time() - since),
    )


def _step_text(operation: Operation) -> str:
    if operation.failure is not None and operation.phase.settled:
        return operation.failure.step or "-"
    step = None if operation.phase.settled else operation.current_step
    return f"{step} {operation.number_of(step)}/{len(operation.steps)}" if step else "-"


@app.command()
def show(operation: OperationArgument, form: FormatOption = Format.TABLE) -> None:
    """Show an operation: every try of every step, and why its host was chosen."""
    with open_records(settings_or_usage_error()) as records:
        found = records.catalog.find_operation(operation)
    show_record(form, _summary(found), operation_view(found))
    if not shows_all(form):
        return
    if found.timeline:
        out().print()
        columns = ("STEP", "WAY", "#TRY", "HOST", "START", "#TIME", "OUTCOME", "MESSAGE")
        show_table(columns, _timeline_rows(found.timeline), empty="")
    if found.placement:
        out().print()
        show_refusals(found.placement)


def _summary(operation: Operation) -> Iterator[tuple[str, str]]:
    yield "Operation", operation.id
    yield "What", f"{operation.flow} of {operation.instance_name} ({operation.instance_id}) on {operation.host}"
    yield "Phase", operation.phase.value + (", cancel requested" if operation.cancel_requested else "")
    if not operation.phase.settled:
        yield "Step", _step_text(operation)
    yield from (("Build", f"{result.value} on {host}") for host, result in build_results_of(operation).items())
    yield "Created", time_text(operation.created_at)
    if operation.settled_at is not None:
        took = seconds_text(operation.settled_at - operation.created_at)
        yield "Ended", f"{time_text(operation.settled_at)}, after {took}"
    if operation.failure is not None:
        failure = operation.failure
        yield "Failure", f"{failure.code} at {failure.step}: {failure.message}"
    if operation.phase is Phase.STUCK:
        yield "Left alone", f"{', '.join(operation.left_alone) or 'nothing'}: begun, and not taken back"
        yield (
            "What to do",
            (
                f"mend by hand what the failure names, then `taskvisor ops retry {operation.id}`; or "
                f"`taskvisor delete {operation.instance_name}`, which takes over; see docs/runbook.md, STUCK"
            ),
        )
    if operation.preempted_by is not None:
        yield "Pre-empted", f"by operation {operation.preempted_by}"
    if operation.excluded_hosts:
        yield "Tried before", ", ".join(operation.excluded_hosts)


def _timeline_rows(timeline: tuple[TimelineEntry, ...]) -> Iterator[tuple[str, ...]]:
    """A row a try. A step that waits comes back again and again with one outcome: that is one row."""
    for _, group in groupby(timeline, lambda entry: (entry.step, entry.direction, entry.attempt, entry.outcome)):
        entries = list(group)
        first, last = entries[0], entries[-1]
        yield (
            first.step,
            first.direction.value,
            str(first.attempt),
            first.host,
            clock_text(first.started_at),
            seconds_text(last.ended_at - first.started_at),
            first.outcome + (f" x{len(entries)}" if len(entries) > 1 else ""),
            last.message or "",
        )


@app.command()
def follow(
    operation: OperationArgument, timeout: TimeoutOption = WAIT_LIMIT_S, form: FormatOption = Format.TABLE
) -> None:
    """Watch an operation until it has ended; the exit code is that of its end."""
    settings = settings_or_usage_error()
    with open_records(settings) as records, open_client(settings) as client:
        request = _request_for(records, client, operation)
        raise typer.Exit(follow_one(records, client, request, limit_s=timeout, form=form))


def _request_for(records: Records, client: Taskvisor, operation: str) -> Request:
    """What to watch. An id that no worker has taken yet is known to Redis only as a whole; it is not looked for twice."""
    found = records.catalog.read_operation(OperationId(operation))
    seen = client.handle(operation).look() if found is None else None
    if seen is not None and (seen.ended or seen.held is not None):
        return Request(verb="request", subject=operation, operation_id=operation)
    found = found or records.catalog.find_operation(operation)
    return Request(verb=VERBS.get(found.flow, found.flow), subject=found.instance_name, operation_id=found.id)


@app.command()
def cancel(
    operation: OperationArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask an operation to stop; what it has done is undone. Exits with 3 when it had ended already."""
    settings = settings_or_usage_error()
    with open_records(settings) as records, open_client(settings) as client:
        found = records.catalog.find_operation(operation)
        if found.phase.settled:
            say(f"operation {found.id} is {found.phase.value} already")
            _show_phase(found, form)
            raise typer.Exit(ExitCode.ALREADY)
        client.cancel(found.id).wait(WISH_LIMIT_S)
        request = _request_for(records, client, found.id)
        raise typer.Exit(
            _code_of_cancel(records, client, request, timeout, form) if wait else _tell_wished(found, form)
        )


def _tell_wished(operation: Operation, form: Format) -> ExitCode:
    say(f"Asked. Watch with: taskvisor ops follow {operation.id}")
    _show_phase(operation, form)
    return ExitCode.DONE


def _show_phase(operation: Operation, form: Format) -> None:
    """For scripts; a person was told in a sentence."""
    if form is not Format.TABLE:
        fields = ("Operation", operation.id), ("Phase", operation.phase.value)
        show_record(form, fields, operation_view(operation))


def _code_of_cancel(records: Records, client: Taskvisor, request: Request, timeout_s: float, form: Format) -> ExitCode:
    """For whoever cancels, CANCELLED is success; an operation that was quicker is not."""
    seen, let_go = watch_requests(records, client, [request], limit_s=timeout_s)
    operation = seen[0].operation
    if let_go is not None or operation is None or not operation.phase.settled:
        return let_go or ExitCode.STILL_RUNNING
    _show_phase(operation, form)
    if operation.phase is Phase.CANCELLED:
        if form is not Format.TABLE:
            return ExitCode.DONE
        out().print(worded(f"{request.verb} {request.subject} was cancelled; nothing of it is left"))
        return ExitCode.DONE
    say_error(f"{request.verb} {request.subject} was not cancelled: it has {operation.phase.value} meanwhile")
    return ExitCode.FAILED


@app.command()
def retry(
    operation: OperationArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let a stuck operation go on, or one that failed or was cancelled begin again."""
    settings = settings_or_usage_error()
    with open_records(settings) as records, open_client(settings) as client:
        found = records.catalog.find_operation(operation)
        client.retry(found.id).wait(WISH_LIMIT_S)
        request = replace(_request_for(records, client, found.id), known_tries=len(found.timeline))
        if not wait:
            raise typer.Exit(_tell_wished(found, form))
        raise typer.Exit(follow_one(records, client, request, limit_s=timeout, form=form))
