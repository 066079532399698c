"""Sending requests about things by their names, and telling how they ended."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import follow_all, follow_one, tell_sent
from taskvisor.cli.records import open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format
from taskvisor.cli.watch import Request
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.spec import Spec, parse_spec

Ask = Callable[[Taskvisor, str, str], Handle[Any]]
"""Sends the request about a subject, under an id."""

IdOption = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The request's id: the same again is the same request.")
]


def require_sense(kind: type[Spec], fields: dict[str, Any]) -> None:
    """The fields are what the door takes of such a request; else UsageError in the door's own words, and nothing was sent."""
    try:
        parse_spec(kind, fields)
    except Refused as refused:
        raise UsageError(str(refused)) from None


def request_one(
    verb: str, subject: str, ask: Ask, *, operation_id: str | None = None, wait: bool, limit_s: float, form: Format
) -> None:
    """Ask about the subject, tell how it ended (as JSON: one object), and exit with its code."""
    settings = settings_or_usage_error()
    request = Request(verb=verb, subject=subject, operation_id=operation_id or str(uuid4()))
    with open_records(settings) as records, open_client(settings) as client:
        ask(client, request.subject, request.operation_id)
        if not wait:
            raise typer.Exit(tell_sent([request], form))
        raise typer.Exit(follow_one(records, client, request, limit_s=limit_s, form=form))


def request_some(verb: str, subjects: Sequence[str], ask: Ask, *, wait: bool, limit_s: float, form: Format) -> None:
    """Ask about one subject as `request_one` does, about several as `request_each` does."""
    if len(dict.fromkeys(subjects)) == 1:
        request_one(verb, subjects[0], ask, wait=wait, limit_s=limit_s, form=form)
    request_each(verb, subjects, ask, wait=wait, limit_s=limit_s, form=form)


def request_each(verb: str, subjects: Sequence[str], ask: Ask, *, wait: bool, limit_s: float, form: Format) -> None:
    """Ask about each of the subjects once, tell how they ended (as JSON: a list), and exit with one code for all."""
    settings = settings_or_usage_error()
    requests = [Request(verb=verb, subject=name, operation_id=str(uuid4())) for name in dict.fromkeys(subjects)]
    with open_records(settings) as records, open_client(settings) as client:
        ask_all(client, requests, ask)
        if not wait:
            raise typer.Exit(tell_sent(requests, form))
        raise typer.Exit(follow_all(records, client, requests, limit_s=limit_s, form=form))


def ask_all(client: Taskvisor, requests: Sequence[Request], ask: Ask) -> None:
    """Ask for each. When Redis falls silent on the way, those that were asked for are told before the error is."""
    for number, request in enumerate(requests):
        try:
            ask(client, request.subject, request.operation_id)
        except CannotAsk:
            if number:
                tell_sent(requests[:number], Format.TABLE)
            raise
