"""`taskvisor launch` of several instances: of one kind (--count), let in by one request; or each as a file says (--spec).

Each is followed by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.follow import follow_all, follow_one, tell_sent
from taskvisor.cli.records import open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, out, say, show_record
from taskvisor.cli.requesting import ask_all, require_sense
from taskvisor.cli.watch import Request
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.model.fleet_spec import BatchSpec
from taskvisor.model.fleet_views import BatchView


@dataclass(frozen=True, kw_only=True)
class Batch:
    """So many, at least so many, under this id."""

    count: int
    min_count: int | None
    request_id: str


def batch_for(count: int | None, min_count: int | None, request_id: str | None) -> Batch | None:
    """What is asked for, under that id or a new one; None: one instance."""
    if count is None and min_count is None:
        return None
    return Batch(count=count or 1, min_count=min_count, request_id=request_id or str(uuid4()))


def require_one(batch: Batch | None) -> None:
    """UsageError when several are asked for where one is meant."""
    if batch is not None:
        raise UsageError("--dry-run: shows what one build would come to; leave out --count and --min-count")


def launch_many(fields: Mapping[str, Any], batch: Batch, *, wait: bool, limit_s: float, form: Format) -> ExitCode:
    """Ask for all of them, and tell how each ended, with one code for all. Raises the batch's own error when none was let in."""
    counts = {"count": batch.count, "min_count": batch.min_count}
    require_sense(BatchSpec, {**fields, **counts})
    settings = settings_or_usage_error()
    with open_records(settings) as records, open_client(settings) as client:
        handle = client.build_many(batch.count, min_count=batch.min_count, operation_id=batch.request_id, **fields)
        if not wait:
            return _tell_sent(batch, form)
        try:
            requests = _requests_of(handle.wait(limit_s))
        except KeyboardInterrupt:
            say(f"Detached; nothing is cancelled. Take it up again with: the same command, and --id {batch.request_id}")
            return ExitCode.STILL_RUNNING
        return follow_all(records, client, requests, limit_s=limit_s, form=form)


def launch_specs(
    specs: Sequence[Mapping[str, Any]], operation_id: str | None, *, wait: bool, limit_s: float, form: Format
) -> ExitCode:
    """Ask for each, and tell how each ended, with one code for all; of one alone as `launch` tells it.

    With an operation's id the requests of several are that id and -1, -2 and so on, in their order: the same again is the same.
    """
    settings, several = settings_or_usage_error(), len(specs) > 1
    requests = [
        Request(verb="launch", subject=fields["name"], operation_id=_id_of(operation_id, number if several else None))
        for number, fields in enumerate(specs, 1)
    ]
    by_id = {request.operation_id: fields for request, fields in zip(requests, specs, strict=True)}

    def ask(client: Taskvisor, _: str, request_id: str) -> Handle[Any]:
        return client.build(**by_id[request_id], operation_id=request_id)

    with open_records(settings) as records, open_client(settings) as client:
        ask_all(client, requests, ask)
        if not wait:
            return tell_sent(requests, form)
        if several:
            return follow_all(records, client, requests, limit_s=limit_s, form=form)
        return follow_one(records, client, requests[0], limit_s=limit_s, form=form)


def _id_of(operation_id: str | None, number: int | None) -> str:
    if operation_id is None:
        return str(uuid4())
    return operation_id if number is None else f"{operation_id}-{number}"


def _requests_of(result: BatchView) -> list[Request]:
    """Those that were let in."""
    if result["why_not_all"]:
        say(f"{len(result['operations'])} of {result['asked']} were let in: {result['why_not_all']}")
    return [
        Request(verb="launch", subject=member["name"], operation_id=member["operation"])
        for member in result["operations"]
    ]


def _tell_sent(batch: Batch, form: Format) -> ExitCode:
    if form is not Format.TABLE:
        fields = ("Operation", batch.request_id), ("Count", str(batch.count))
        show_record(form, fields, {"operation": batch.request_id, "count": batch.count})
    else:
        out().print(batch.request_id)
        say(f"Sent. Its builds are {batch.request_id}-1 and on: taskvisor ops list")
    return ExitCode.DONE
