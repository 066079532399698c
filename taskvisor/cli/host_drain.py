"""`taskvisor host drain` and `undrain`: the plan first, then the request, then what becomes of it if it is watched."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from uuid import uuid4

import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.follow import WAIT_LIMIT_S
from taskvisor.cli.host_arguments import HostArgument, ReasonOption, parse_length_s, who_asks
from taskvisor.cli.launch import TimeoutOption, WaitOption
from taskvisor.cli.quantities import time_text
from taskvisor.cli.records import Records, open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, out, say, show_record, show_table, worded
from taskvisor.cli.requesting import IdOption, request_one
from taskvisor.client import Taskvisor
from taskvisor.model.drain import BuildPolicy, Drain, DrainPhase, GuestPolicy
from taskvisor.model.errors import CannotAsk, Refused
from taskvisor.model.host_views import drain_view
from taskvisor.model.ids import HostName

WATCH_ROUND_S = 0.5
SILENCE_LIMIT_S = 30.0
ANSWER_LIMIT_S = 120.0
ENDED_WORDS = {
    DrainPhase.DRAINED: "is drained: nothing runs there",
    DrainPhase.PARTIAL: "is not empty, and its deadline has passed",
    DrainPhase.OVER: "takes newcomers again",
}


def drain(
    host: HostArgument,
    reason: ReasonOption = None,
    deadline: Annotated[
        str, typer.Option(metavar="TIME", help="Try for so long, like 90s, 15m, 2h; then say what remains.")
    ] = "1h",
    stop_guests: Annotated[
        bool,
        typer.Option("--stop-guests", help="Shut down the guests that run; without, they run on and are waited for."),
    ] = False,
    cancel_builds: Annotated[
        bool, typer.Option("--cancel-builds", help="Cancel builds for this host that have not begun.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal, whether the plan is meant.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", "--watch", help="Show how it goes on, until it ends; --watch is the same."),
    ] = False,
    operation_id: IdOption = None,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Empty a host for maintenance. It takes no newcomers from then on; the plan says what becomes of its guests.

    With --watch alone a drain that is under way is shown; what is to become of guests and builds goes with --reason.
    Exits with 1 when something was still there at the deadline.
    """
    guests = GuestPolicy.STOP if stop_guests else GuestPolicy.LEAVE
    builds = BuildPolicy.CANCEL if cancel_builds else BuildPolicy.WAIT
    settings, deadline_s = settings_or_usage_error(), parse_length_s(deadline)
    watches = wait and not (stop_guests or cancel_builds)
    if reason is None and not (watches or dry_run):
        raise UsageError("--reason says why; it is shown wherever the host is passed over")
    with open_records(settings) as records, open_client(settings) as client:
        if reason is not None or dry_run:
            _show_plan(client, host, guests, builds, form, alone=dry_run)
        if dry_run:
            return
        if reason is not None:
            _confirm(host, yes=yes)
            begun = client.drain_host(
                host,
                reason,
                deadline_s=deadline_s,
                guests=guests.value,
                builds=builds.value,
                by=who_asks(),
                operation_id=operation_id or str(uuid4()),
            ).wait(ANSWER_LIMIT_S)
            if not wait:
                _tell_begun(begun, form)
                return
        raise typer.Exit(_watch(records, HostName(host), limit_s=timeout, form=form))


def undrain(
    host: HostArgument,
    start_guests: Annotated[
        bool, typer.Option("--start-guests", help="Start the guests again that the drain had stopped.")
    ] = False,
    operation_id: IdOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = WAIT_LIMIT_S,
    form: FormatOption = Format.TABLE,
) -> None:
    """Give a drained host back, or end its drain: it takes newcomers again. Exits with 3 when it was not drained."""
    request_one(
        "host undrain",
        host,
        lambda client, subject, request_id: client.undrain_host(
            subject, start_guests=start_guests, by=who_asks(), operation_id=request_id
        ),
        operation_id=operation_id,
        wait=wait,
        limit_s=timeout,
        form=form,
    )


def _show_plan(
    client: Taskvisor, host: str, guests: GuestPolicy, builds: BuildPolicy, form: Format, *, alone: bool
) -> None:
    """On standard output when the plan is all that is wanted, or people read it; a script wants what became of it."""
    plan = client.plan_drain(host, guests=guests.value, builds=builds.value).wait(ANSWER_LIMIT_S)
    if form is not Format.TABLE:
        if alone:
            show_record(form, (("Host", host), ("Guests", str(len(plan["prospects"])))), plan)
        return
    if not plan["up"]:
        say(f"Host {host} is down: nothing on it can be stopped, and nothing is concluded about its guests.")
    rows = ((one["name"], one["fate"], one["why"]) for one in plan["prospects"])
    show_table(("NAME", "FATE", "WHY"), rows, empty=f"Nothing is on host {host}.")


def _confirm(host: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty() and not typer.confirm(f"Drain host {host}?"):
        raise typer.Exit(ExitCode.FAILED)


def _tell_begun(begun: Mapping[str, Any], form: Format) -> None:
    if form is not Format.TABLE:
        show_record(form, (("Host", begun["host"]), ("Until", time_text(begun["deadline_at"]))), begun)
        return
    out().print(
        worded(f"{begun['host']} takes no newcomers, and is being drained until {time_text(begun['deadline_at'])}")
    )


def _watch(records: Records, host: HostName, *, limit_s: float, form: Format) -> ExitCode:
    """A line for each change, until the drain has ended. Whoever stops watching stops nothing."""
    known: set[tuple[str, str]] = set()
    last: Drain | None = None
    deadline, heard_at = time.monotonic() + limit_s, time.monotonic()
    try:
        while time.monotonic() < deadline:
            try:
                last, heard_at = _read(records, host), time.monotonic()
            except CannotAsk:
                if time.monotonic() - heard_at > SILENCE_LIMIT_S:
                    raise
                time.sleep(WATCH_ROUND_S)
                continue
            known = _tell_news(last, known, form)
            if not last.phase.is_active:
                return _tell_end(last, form)
            time.sleep(WATCH_ROUND_S)
    except KeyboardInterrupt:
        say(f"Detached; the drain goes on. `taskvisor host drain {host} --watch` shows it again.")
        return ExitCode.STILL_RUNNING
    say(f"Host {host} is still {last.phase.value if last else 'unseen'}; the drain goes on.")
    return ExitCode.STILL_RUNNING


def _read(records: Records, host: HostName) -> Drain:
    seen = records.drains.read(host)
    if seen is None:
        raise Refused(f"host: {host!r} is not being drained; see `taskvisor host show {host}`")
    return seen.drain


def _tell_news(drain: Drain, known: set[tuple[str, str]], form: Format) -> set[tuple[str, str]]:
    """What is in the way now and was not, or otherwise; and what is not in the way any more."""
    now = {(one.name, one.why) for one in drain.prospects}
    if form is Format.TABLE:
        names = {name for name, _ in now}
        _say_all(f"{name} {why}" for name, why in sorted(now - known))
        _say_all(f"{name} is not in the way any more" for name in sorted({name for name, _ in known} - names))
    return now


def _say_all(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        say(sentence)


def _tell_end(drain: Drain, form: Format) -> ExitCode:
    if form is not Format.TABLE:
        show_record(form, (("Host", drain.host), ("Phase", drain.phase.value)), drain_view(drain))
    else:
        out().print(worded(f"{drain.host} {ENDED_WORDS[drain.phase]}"))
    return ExitCode.FAILED if drain.phase is DrainPhase.PARTIAL else ExitCode.DONE
