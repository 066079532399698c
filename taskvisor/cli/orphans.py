"""`taskvisor orphans`: what hosts have that no record is of, what becomes of it when, and what is to stay."""

from typing import Annotated, TypedDict

import typer

from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.quantities import time_text
from taskvisor.cli.records import complete_host, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows
from taskvisor.cli.requesting import IdOption, request_one
from taskvisor.compute.orphans import OrphanPolicy, fate_of, policy_of
from taskvisor.model.ids import HostName
from taskvisor.model.orphan import Orphan

HostOption = Annotated[str | None, typer.Option("--host", help="Of this host only.", autocompletion=complete_host)]

app = typer.Typer(help="What hosts have that no record is of.", invoke_without_command=True)


class OrphanView(TypedDict):
    host: str
    kind: str
    subject: str
    instance: str | None
    what: str
    first_seen: float
    last_seen: float
    times: int
    kept: bool
    due_at: float | None
    fate: str


@app.callback()
def list_orphans(context: typer.Context, host: HostOption = None, form: FormatOption = Format.TABLE) -> None:
    """List what is in quarantine, and what will happen to it when, by the settings of this process."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_or_usage_error()
    policy = policy_of(settings)
    with open_records(settings) as records:
        hosts = [HostName(host)] if host else [one.name for one in records.hosts.list_hosts()]
        found = [(name, orphan) for name in hosts for orphan in records.quarantines.read(name).orphans.values()]
    views = [_view(name, orphan, policy) for name, orphan in found]
    columns = ("HOST", "KIND", "SUBJECT", "WHAT IS", "FIRST SEEN", "#TIMES", "NOT BEFORE", "THEN IT")
    show_rows(
        form,
        columns,
        map(_row, views),
        views,
        empty="Nothing is in quarantine: every host has what records say, and no more.",
    )


@app.command()
def keep(
    orphan: Annotated[
        str, typer.Argument(metavar="ID", help="An instance's id, or a subject, as `taskvisor orphans` shows.")
    ],
    host: HostOption = None,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let what is in quarantine stay, whatever the policy is."""
    request_one(
        "orphans keep",
        orphan,
        lambda client, subject, request_id: client.keep_orphan(subject, host=host, operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def _view(host: HostName, orphan: Orphan, policy: OrphanPolicy) -> OrphanView:
    stays = fate_of(orphan, policy).startswith("stays")
    return {
        "host": host,
        "kind": orphan.stray.kind.value,
        "subject": orphan.stray.subject,
        "instance": orphan.stray.instance_id,
        "what": orphan.stray.said,
        "first_seen": orphan.first_seen,
        "last_seen": orphan.last_seen,
        "times": orphan.times,
        "kept": orphan.kept,
        "due_at": None if stays else orphan.first_seen + policy.confirm_s,
        "fate": fate_of(orphan, policy),
    }


def _row(view: OrphanView) -> tuple[str, ...]:
    due = time_text(view["due_at"]) if view["due_at"] is not None else "-"
    first = time_text(view["first_seen"])
    return view["host"], view["kind"], view["subject"], view["what"], first, str(view["times"]), due, view["fate"]
