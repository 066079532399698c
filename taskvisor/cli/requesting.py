"""Sending requests that are about records only, and telling how they ended."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer

from taskvisor.cli.follow import follow_all, follow_one
from taskvisor.cli.launch import tell_sent
from taskvisor.cli.records import open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format
from taskvisor.cli.watch import Request
from taskvisor.client import Handle, Taskvisor

Ask = Callable[[Taskvisor, str, str], Handle[Any]]
"""Sends the request about a subject, under an id."""

IdOption = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The request's id: the same again is the same request.")
]


def request_each(
    verb: str,
    subjects: Sequence[str],
    ask: Ask,
    *,
    operation_id: str | None = None,
    wait: bool,
    limit_s: float,
    form: Format,
) -> None:
    """Ask about each of the subjects once, and exit with one code for all. The id is for who asks about one."""
    settings = settings_or_usage_error()
    named = dict.fromkeys(subjects)
    requests = [Request(verb=verb, subject=name, operation_id=operation_id or str(uuid4())) for name in named]
    with open_records(settings) as records, open_client(settings) as client:
        for request in requests:
            ask(client, request.subject, request.operation_id)
        if not wait:
            raise typer.Exit(tell_sent(requests, form))
        if len(requests) == 1 and not verb.endswith("delete"):
            raise typer.Exit(follow_one(records, client, requests[0], limit_s=limit_s, form=form))
        raise typer.Exit(follow_all(records, client, requests, limit_s=limit_s, form=form))
