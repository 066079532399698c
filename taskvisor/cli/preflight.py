"""`taskvisor preflight`: whether this machine can be a host: each check, what is, and what to do. A program of its own looks."""

import signal

import msgspec
import typer

from taskvisor.cli.exits import ExitCode
from taskvisor.cli.nodes import preflight_of
from taskvisor.cli.processes import run_briefly
from taskvisor.cli.records import settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows
from taskvisor.cli.worker import ensure_directory
from taskvisor.model.errors import CannotAsk
from taskvisor.model.preflight import CheckRow, Verdict

LIMIT_S = 90.0


def preflight(form: FormatOption = Format.TABLE) -> None:
    """Check this machine: KVM, libvirt, Redis, disk, limits, clock, identity. Exits with 1 when guests could not run here."""
    settings = settings_or_usage_error()
    ensure_directory(settings.state_dir)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        _, said = run_briefly(preflight_of(settings, "json"), mask, limit_s=LIMIT_S)
        rows = msgspec.json.decode(said.encode(), type=tuple[CheckRow, ...])
    except TimeoutError as error:
        raise CannotAsk(f"this machine could not be checked: {error}") from error
    except msgspec.MsgspecError as error:
        raise CannotAsk(f"this machine could not be checked: {said.strip() or error}") from error
    _show(rows, form)
    failed = any(row.verdict is Verdict.PROBLEM for row in rows)
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.DONE)


def _show(rows: tuple[CheckRow, ...], form: Format) -> None:
    columns = ("CHECK", "WHAT IS", "VERDICT", "WHAT TO DO")
    cells = ((row.check, row.found, row.verdict.value, row.advice or "-") for row in rows)
    show_rows(form, columns, cells, msgspec.to_builtins(rows), empty="")
