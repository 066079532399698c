"""`taskvisor verify --fix CODE`: asks for findings to be mended, one request each, and tells what became of each.

What is safe, and how it is done, is the fleet's business: whoever takes the request looks again before anything is done.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.render import Format, say, show_rows
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.fields import RepairView
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.finding import ADVICE, Code, Finding
from taskvisor.model.repair import NOT_REPAIRED, REPAIRS

FIX_LIMIT_S = 330.0
"""A host has 300 s for a repair."""


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What was asked for on the command line."""

    code: Code
    subject: str | None
    dry_run: bool
    yes: bool


def require_mendable(code: Code) -> None:
    """Refused, with why and what to do by hand, for findings that only a person can mend."""
    if code not in REPAIRS:
        raise Refused(f"{code.value} is not mended: {NOT_REPAIRED[code]}. By hand: {ADVICE[code]}")


def fix_all(client: Taskvisor, findings: Iterable[Finding], fix: Fix, form: Format) -> ExitCode:
    """The findings that were asked for are mended. FAILED when one of them is not. UsageError when nobody can be asked."""
    wanted = [one for one in findings if one.code is fix.code and fix.subject in (None, one.subject)]
    if not wanted:
        say(
            f"Nothing was found under {fix.code.value}{f' about {fix.subject}' if fix.subject else ''}: nothing is to be done."
        )
        return ExitCode.DONE
    if fix.dry_run or not fix.yes:
        _show([_row(finding, REPAIRS[fix.code]) for finding in wanted], "WHAT WOULD BE DONE", form)
    if fix.dry_run:
        return ExitCode.DONE
    if not fix.yes:
        _confirm(len(wanted))
    asked = [(one, client.repair(one.code.value, one.subject, host=one.host)) for one in wanted]
    told = [_outcome(finding, handle) for finding, handle in asked]
    _show([row for row, _ in told], "WHAT WAS DONE", form)
    return ExitCode.DONE if all(mended for _, mended in told) else ExitCode.FAILED


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "--fix asks before it changes anything, and nobody is there to answer: add --yes, or --dry-run"
        )
    typer.confirm(f"Mend {'this finding' if count == 1 else f'these {count} findings'}?", abort=True, err=True)


def _outcome(finding: Finding, handle: Handle[RepairView]) -> tuple[tuple[str, ...], bool]:
    try:
        return _row(finding, handle.wait(FIX_LIMIT_S)["done"]), True
    except TaskvisorError as error:
        return _row(finding, f"not mended: {error}"), False


def _row(finding: Finding, done: str) -> tuple[str, ...]:
    return finding.code.value, finding.subject, finding.host or "-", finding.message, done


def _show(rows: Sequence[tuple[str, ...]], what: str, form: Format) -> None:
    names = ("code", "subject", "host", "message", "done")
    views = [dict(zip(names, row, strict=True)) for row in rows]
    show_rows(form, ("CODE", "SUBJECT", "HOST", "WHAT IS", what), rows, views, empty="")
