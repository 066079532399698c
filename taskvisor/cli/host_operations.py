"""`taskvisor host force-down` and `remove`: a host that is called dead, or is no more.

Who asks is the user of this machine: it is recorded with what was done, and proves nothing.
"""

from typing import Annotated

import typer

from taskvisor.cli.exits import UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.host_arguments import HostArgument, ReasonOption, who_asks
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.prospects import DryRunOption, end_with_prospects, removal_of_host
from taskvisor.cli.render import Format, FormatOption
from taskvisor.cli.requesting import IdOption, request_one


def force_down(
    host: HostArgument,
    reason: ReasonOption = None,
    up: Annotated[bool, typer.Option("--up", help="Believe its heartbeat again.")] = False,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Treat a host as down, whatever its heartbeat says. Its guests are neither touched nor fenced: see that it is off."""
    if up == (reason is not None):
        raise UsageError("--reason says why the host is called dead; it goes with every force-down, and not with --up")
    request_one(
        "host force-up" if up else "host force-down",
        host,
        lambda client, subject, request_id: (
            client.force_host_up(subject, by=who_asks(), operation_id=request_id)
            if reason is None
            else client.force_host_down(subject, reason, by=who_asks(), operation_id=request_id)
        ),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def remove(
    host: HostArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")],
    dry_run: DryRunOption = False,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Forget a host that is gone for good. Refused, with all that holds it, while it speaks or something needs it."""
    if dry_run:
        end_with_prospects([host], removal_of_host, form)
    request_one(
        "host remove",
        host,
        lambda client, subject, request_id: client.remove_host(subject, reason, by=who_asks(), operation_id=request_id),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )
