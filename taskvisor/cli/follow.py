"""Following requests to their end: shows them go on, tells how each ended, and says with which exit code.

Whoever stops watching detaches; the operations go on, and how to take them up again is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from taskvisor.cli.columns import Row, bare_text, wanted_columns, with_columns
from taskvisor.cli.exits import ExitCode, code_of_all
from taskvisor.cli.quantities import seconds_text
from taskvisor.cli.records import Records
from taskvisor.cli.render import Format, err, out, say, say_error, show_record, show_rows, worded
from taskvisor.cli.steps_lines import Lines
from taskvisor.cli.steps_live import LiveSteps
from taskvisor.cli.watch import Ending, Request, Seen, Watch
from taskvisor.client import Taskvisor
from taskvisor.model.errors import CannotAsk, NoCapacity, TaskvisorError
from taskvisor.model.operation import Operation
from taskvisor.model.snapshot import SnapshotMethod
from taskvisor.model.states import Phase

WAIT_LIMIT_S = 3600.0
OF_RECORDS = ("network ", "group ", "floating ", "flavor ", "host ", "aggregate ", "server-group ")
"""Verbs of requests about nothing but records."""
RESULT_COLUMNS = ("NAME", "OUTCOME", "OPERATION")
DONE_WORDS = {
    "launch": "is running",
    "start": "is running",
    "reboot": "was rebooted",
    "stop": "is stopped",
    "delete": "is deleted",
    "soft delete": "is deleted softly; `taskvisor restore` brings it back",
    "restore": "is restored and running",
    "snapshot": "was snapshotted",
    "image register": "is registered",
    "image delete": "is deleted",
    "network create": "is recorded",
    "network delete": "is deleted",
    "group create": "is recorded",
    "group update": "has these rules",
    "group delete": "is deleted",
    "group set": "is in these groups",
    "flavor create": "is recorded",
    "flavor delete": "is deleted",
    "flavor set": "has these extra specs",
    "flavor unset": "has none of these extra specs",
    "flavor access add": "may be had by these projects",
    "flavor access remove": "may not be had by these projects",
    "floating create": "is registered",
    "floating bind": "is bound",
    "floating release": "is free",
    "floating delete": "is deleted",
    "host enable": "takes new instances",
    "host disable": "takes no new instances",
    "host label": "bears these labels",
    "aggregate create": "is recorded",
    "aggregate set": "has these properties",
    "aggregate add-host": "has that host",
    "aggregate remove-host": "does not have that host",
    "aggregate delete": "is deleted",
    "server-group create": "is recorded",
    "server-group delete": "is deleted",
    "orphans keep": "stays",
    "host undrain": "takes newcomers as before its drain",
    "host force-down": "is treated as down; its guests are left alone, and not fenced",
    "host force-up": "is believed again",
    "host remove": "is forgotten",
    "attach_volume": "has the volume",
    "detach_volume": "has let go of the volume",
    "attach_interface": "has the NIC",
    "detach_interface": "has let go of the NIC",
}


def watch_requests(
    records: Records, client: Taskvisor, requests: Sequence[Request], *, limit_s: float
) -> tuple[tuple[Seen, ...], ExitCode | None]:
    """Watch them until all have ended. The code is set when the watcher let go before: ctrl-C, time-out, silence."""
    watch, seen = Watch(records=records, client=client, requests=requests), tuple(Seen(request=r) for r in requests)
    console = err()
    try:
        with LiveSteps(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console) as display:
            for seen in watch.rounds(limit_s=limit_s):
                display.show(seen)
    except KeyboardInterrupt:
        say_still_running(seen, "Detached; nothing is cancelled.")
        return seen, ExitCode.STILL_RUNNING
    except CannotAsk as silence:
        say_error("lost sight of it; what was asked goes on.", why=str(silence), attempt=_reattach(seen))
        return seen, ExitCode.STILL_RUNNING
    if all(one.ending for one in seen):
        return seen, None
    say_still_running(seen, f"Still running after {seconds_text(limit_s)}; nothing is cancelled.")
    return seen, ExitCode.STILL_RUNNING


def follow_one(records: Records, client: Taskvisor, request: Request, *, limit_s: float, form: Format) -> ExitCode:
    """Watch one request and tell how it ended: on stdout what succeeded (as JSON: one object), on stderr what failed."""
    seen, code = _follow_and_tell(records, client, [request], limit_s=limit_s, form=form)
    if form is not Format.TABLE and seen[0].ending:
        view = _result_view(seen[0])
        show_record(form, zip(RESULT_COLUMNS, _result_cells(view), strict=True), view)
    return code


def follow_all(
    records: Records, client: Taskvisor, requests: Sequence[Request], *, limit_s: float, form: Format
) -> ExitCode:
    """The same of several at once, with one code for all (as JSON: a list)."""
    seen, code = _follow_and_tell(records, client, requests, limit_s=limit_s, form=form)
    if form is not Format.TABLE:
        views = [_result_view(one) for one in seen if one.ending]
        show_rows(form, RESULT_COLUMNS, map(_result_cells, views), views, empty="")
    return code


def tell_sent(requests: Sequence[Request], form: Format) -> ExitCode:
    """Say which operations were sent: their ids on stdout, and on stderr how to watch them."""
    if form is not Format.TABLE:
        rows = [(request.operation_id, request.subject) for request in requests]
        views = [{"operation": operation_id, "name": name} for operation_id, name in rows]
        show_rows(form, ("OPERATION", "NAME"), rows, views, empty="")
        return ExitCode.DONE
    for request in requests:
        out().print(request.operation_id)
    say("Sent. Watch with: " + "; ".join(f"taskvisor ops follow {request.operation_id}" for request in requests))
    return ExitCode.DONE


def _follow_and_tell(
    records: Records, client: Taskvisor, requests: Sequence[Request], *, limit_s: float, form: Format
) -> tuple[tuple[Seen, ...], ExitCode]:
    seen, let_go = watch_requests(records, client, requests, limit_s=limit_s)
    codes = [] if let_go is None else [let_go]
    for one in seen:
        if one.ending is None:
            continue
        codes.append(one.ending.code)
        if one.ending.error is not None:
            say_failure(one.request, one.ending.error, one.operation)
        elif form is Format.TABLE:
            out().print(worded(success_sentence(one, one.ending)))
    return seen, code_of_all(codes)


def success_sentence(seen: Seen, ending: Ending) -> str:
    """One line about what is true now."""
    verb, result = seen.request.verb, ending.result or {}
    name = result.get("name") or seen.request.subject
    if ending.code is ExitCode.ALREADY:
        if verb.startswith(OF_RECORDS):
            return f"{name}: there is none such" if verb.endswith("delete") else f"{name} {DONE_WORDS[verb]} already"
        if verb.startswith("image "):
            return f"{name}: there is no such image" if verb == "image delete" else f"{name} is registered already"
        if verb == "attach_volume":
            return f"{name} has the volume already"
        state = result.get("vm_state", "so")
        return f"{name} is {state} already" if state != "deleted" else f"{name}: there is no such instance"
    took = f" ({seconds_text(seen.operation.updated_at - seen.operation.created_at)})" if seen.operation else ""
    where = f" on {result['host']}" if result.get("host") not in (None, name) else ""
    addresses = result.get("addresses") or ()
    at = f", {', '.join(addresses)}" if addresses and verb in ("launch", "start", "reboot", "restore") else ""
    image = _image_words(result["snapshot"]) if "snapshot" in result else ""
    return f"{name} {DONE_WORDS.get(verb, 'is done')}{where}{at}{image}{took}"


def _image_words(snapshot: Mapping[str, Any]) -> str:
    """Which image, and of a live copy whether it was quiesced."""
    quiesced = ", quiesced" if snapshot.get("quiesced") else ""
    if not quiesced and snapshot.get("method") == SnapshotMethod.LIVE:
        quiesced = f", not quiesced: {snapshot.get('why_not_quiesced')}"
    return f": image {snapshot['name']}{quiesced}"


def say_failure(request: Request, error: TaskvisorError, operation: Operation | None) -> None:
    """What failed and at which step, why, and what to try."""
    verb, subject = request.verb, request.subject
    if operation is None:
        say_error(
            f"{verb} {subject} was refused ({error.code})", why=str(error), attempt=_advice_at_the_door(request, error)
        )
        return
    failure = operation.failure
    at = f" at {failure.step}" if failure is not None and failure.step else ""
    end = {
        Phase.CANCELLED: "was cancelled" + at,
        Phase.STUCK: f"is stuck{at} ({error.code})",
    }.get(operation.phase, f"failed{at} ({error.code})")
    say_error(f"{verb} {subject} {end}", why=str(error), attempt=_advice(operation))


def say_still_running(seen: Sequence[Seen], why: str) -> None:
    say(f"{why} Take it up again with: {_reattach(seen)}")


def _reattach(seen: Sequence[Seen]) -> str:
    return "; ".join(f"taskvisor ops follow {one.request.operation_id}" for one in seen if one.ending is None)


def _advice(operation: Operation) -> str | None:
    show = f"taskvisor ops show {operation.id}"
    if operation.phase is Phase.STUCK:
        return f"{show}, put right what it found, then taskvisor ops retry {operation.id}"
    if operation.preempted_by is not None:
        return None
    return f"{show} for every try, then taskvisor ops retry {operation.id}"


def _advice_at_the_door(request: Request, error: TaskvisorError) -> str | None:
    if isinstance(error, NoCapacity):
        why = f"taskvisor why {request.operation_id}, for what would help each host"
        return (
            f"{why}; a smaller flavor, another host started with `taskvisor worker`, or another network if one is full"
        )
    return None


def _result_cells(view: Mapping[str, object]) -> tuple[str, ...]:
    """As `-f value` prints them, beneath RESULT_COLUMNS."""
    error = view.get("error")
    return bare_text(view.get("name")), "failed" if error else "done", bare_text(view["operation"])


def _result_view(seen: Seen) -> dict[str, object]:
    """What came of it. A failure has none of a result's fields, and a result has no error: those that are wanted are empty."""
    ending, wanted = seen.ending, wanted_columns()
    if ending is None or ending.error is None:
        view = {"operation": seen.request.operation_id, **(ending.result or {} if ending else {})}
        return _widened(view, [name for name in wanted if name.lower() == "error"])
    step = seen.operation.failure.step if seen.operation and seen.operation.failure else None
    error = {"code": ending.error.code, "step": step, "message": str(ending.error)}
    return _widened({"operation": seen.request.operation_id, "name": seen.request.subject, "error": error}, wanted)


def _widened(view: Mapping[str, object], wanted: Sequence[str]) -> dict[str, object]:
    return dict(with_columns(Row(cells=dict.fromkeys(RESULT_COLUMNS, ""), view=view), wanted).view)
