"""`taskvisor rebuild`: a store that lost its records gets them back from the hosts; and closing and opening a store by hand.

The one command that writes to the store by itself: while it is closed, no node takes requests. What is to be written is decided
by `compute/rebuild.py` alone, and written by `state/rebuilding.py` in one transaction.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec
import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.records import open_client, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, say, show_record, show_table, shows_all
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.compute.rebuild import LeftOut, rebuild_for
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.holdings import HostHoldings
from taskvisor.model.ids import HostName
from taskvisor.model.rebuilding import ADVICE, Rebuild
from taskvisor.settings import Settings
from taskvisor.state.closing import Closing
from taskvisor.state.connection import open_redis
from taskvisor.state.hosts import Hosts
from taskvisor.state.keys import Keys
from taskvisor.state.rebuilding import Rebuilding
from taskvisor.state.schema import require_readable
from taskvisor.state.writing import Writer

WAIT_S = 30.0
FIND_HOSTS_S = 10.0
"""Nodes say that they live every five seconds: a host that is up is heard of within this."""
LOOK_S = 0.5
STORE_LIMIT_S = 60.0
"""Everything is one transaction: of ten thousand instances it takes seconds, and Redis answers nobody meanwhile."""
REPORT_LIMIT_S = 10.0
"""A host that told what it has was asked to report its resources before that."""
REASON = "it is being rebuilt from its hosts; `taskvisor rebuild --from-hosts` ends that, or `taskvisor rebuild --open`"

Told = Mapping[HostName, HostHoldings | None]
"""What each host that was asked has; None of one that did not tell."""


def rebuild(
    from_hosts: Annotated[
        bool, typer.Option("--from-hosts", help="Read all records back from what hosts have.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Add what is missing to a store that is not empty.")] = False,
    hosts: Annotated[
        str, typer.Option(help="Ask these, with commas between them. Else whoever is heard of within some seconds.")
    ] = "",
    without_host: Annotated[
        list[str] | None, typer.Option(help="Go on without this host; its guests can be added with --merge later.")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Do not record this instance or image (its id).")] = None,
    wait: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds that hosts have to tell what they have.")
    ] = WAIT_S,
    close: Annotated[
        bool, typer.Option("--close", help="Let requests wait, so that nodes can be started on a store that is lost.")
    ] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Take requests again, with the records that there are.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Write the records of a lost store anew, from what the hosts have. Guests run on, and nothing on a host is changed."""
    if sum((from_hosts, close, open_)) != 1:
        raise UsageError("say one of --from-hosts, --close and --open")
    settings = settings_or_usage_error()
    with _open_store(settings) as store:
        if from_hosts:
            left_out = LeftOut(
                subjects=frozenset(leave_out or ()), hosts=frozenset(HostName(host) for host in without_host or ())
            )
            asked = tuple(HostName(host) for host in hosts.split(",") if host)
            wanted = _Wanted(hosts=asked, left_out=left_out, wait_s=wait, dry_run=dry_run, merge=merge, form=form)
            raise typer.Exit(_from_hosts(store, settings, wanted))
        if close:
            _close(store)
        else:
            store.closing.open(time.time())
            say("The store is open.")


def close_store(settings: Settings) -> None:
    """Requests wait from now on, and nodes can be started though the store knows nothing of their guests."""
    with _open_store(settings) as store:
        _close(store)


def _close(store: "_Store") -> None:
    store.closing.close(REASON, time.time())
    say("The store is closed: requests wait. Nodes can be started.")


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Who is to be asked, what is left out, and what becomes of it."""

    hosts: tuple[HostName, ...]
    left_out: LeftOut
    wait_s: float
    dry_run: bool
    merge: bool
    form: Format


@dataclass(frozen=True, kw_only=True)
class _Store:
    """The parts of one store that a rebuilding needs."""

    rebuilding: Rebuilding
    closing: Closing
    hosts: Hosts


@contextmanager
def _open_store(settings: Settings) -> Iterator[_Store]:
    client, keys = open_redis(settings.redis_url, timeout_s=STORE_LIMIT_S), Keys(settings.key_prefix)
    try:
        require_readable(client, keys)
        writer = Writer(
            keys=keys,
            operation_keep_s=settings.operation_keep_s,
            events_kept=settings.events_kept,
            outcome_for=lambda *_: None,  # nobody has asked for any of these instances under an operation's id
        )
        yield _Store(rebuilding=Rebuilding(client, writer), closing=Closing(client, keys), hosts=Hosts(client, keys))
    finally:
        client.close()


def _from_hosts(store: _Store, settings: Settings, wanted: _Wanted) -> ExitCode:
    present = store.rebuilding.read_present(time.time())
    if not present.is_empty and not wanted.merge:
        raise Refused(
            f"the store is not empty: it has {len(present.instances)} instances and {len(present.networks)} networks; add"
            " --merge to add what is missing to it: nothing that is there is overwritten"
        )
    if wanted.dry_run:
        return _decide(store, settings, wanted)
    former = store.closing.reason()
    store.closing.close(REASON, time.time())
    code = ExitCode.FAILED
    try:
        _require_rest(store)
        code = _decide(store, settings, wanted)
    finally:
        if code is not ExitCode.DONE and wanted.merge and former is None:
            store.closing.open(time.time())  # a fleet at work goes on with the records that it has
    return code


def _require_rest(store: _Store) -> None:
    """An operation could remove a guest between the host's telling and the writing of its record."""
    under_way = store.rebuilding.count_unsettled()
    if under_way:
        raise Refused(
            f"{under_way} operations are under way; wait for their end, or cancel them: see `taskvisor ops list`"
        )


def _decide(store: _Store, settings: Settings, wanted: _Wanted) -> ExitCode:
    """Ask, decide, write if nothing stands against it, and tell."""
    with open_client(settings) as client:
        told = _ask(client, store.rebuilding, wanted)
    answers = [holdings for holdings in told.values() if holdings is not None]
    found = rebuild_for(answers, store.rebuilding.read_present(time.time()), wanted.left_out)
    unheard = {host: 0 for host, holdings in told.items() if holdings is None and host not in wanted.left_out.hosts}
    silent = {**unheard, **found.silent}
    blocked = bool(found.conflicts or silent or not answers)
    if not (blocked or wanted.dry_run):
        _write(store, settings, found, [holdings.host for holdings in answers])
    result = _Result(found=found, told=told, silent=silent, written=not (blocked or wanted.dry_run))
    if shows_all(wanted.form):
        _show(result)
    else:
        counts = ((what.capitalize(), str(count)) for what, count in _counts(result.found).items())
        show_record(wanted.form, (("Written", "yes" if result.written else "no"), *counts), _view(result))
    return ExitCode.FAILED if blocked else ExitCode.DONE


def _write(store: _Store, settings: Settings, found: Rebuild, hosts: Sequence[HostName]) -> None:
    """The hosts have reported before, and do so anew: guests that nobody knew of counted against what may be claimed there."""
    _wait_for_reports(store.hosts, hosts)
    store.rebuilding.write(found, time.time())
    with open_client(settings) as client:
        for host in hosts:
            client.report_of_host(host, expires_s=REPORT_LIMIT_S)


def _ask(client: Taskvisor, rebuilding: Rebuilding, wanted: _Wanted) -> Told:
    """Everyone is asked once, as soon as he is heard of; they have all of the time to answer."""
    deadline = time.monotonic() + wanted.wait_s
    asked: dict[HostName, Handle[object]] = {}
    find_until = time.monotonic() + (0 if wanted.hosts else min(FIND_HOSTS_S, wanted.wait_s / 2))
    while True:
        for host in wanted.hosts or rebuilding.list_taking():
            if host not in asked and host not in wanted.left_out.hosts:
                expires_s = max(1.0, deadline - time.monotonic())
                if not wanted.dry_run:
                    client.report_of_host(host, expires_s=expires_s)
                asked[host] = client.tell_of_host(host, expires_s=expires_s)
        if time.monotonic() >= find_until:
            break
        time.sleep(LOOK_S)
    return {host: _answer(host, handle, deadline - time.monotonic()) for host, handle in asked.items()}


def _wait_for_reports(hosts: Hosts, wanted: Sequence[HostName]) -> None:
    """Requests that wait are placed as soon as the store is open: they should find the hosts that there are."""
    deadline = time.monotonic() + REPORT_LIMIT_S
    while missing := set(wanted) - {host.name for host in hosts.list_hosts() if host.inventory is not None}:
        if time.monotonic() > deadline:
            say(f"not reported yet, so nothing is placed there for now: {', '.join(sorted(missing))}")
            return
        time.sleep(LOOK_S)


def _answer(host: HostName, handle: Handle[object], limit_s: float) -> HostHoldings | None:
    try:
        return msgspec.convert(handle.wait(max(0.0, limit_s)), HostHoldings)
    except TaskvisorError as error:
        say(f"host {host} did not tell what it has: {error}")
    except msgspec.ValidationError as error:
        say(f"host {host} answered what this version does not understand ({error}); is its worker of another version?")
    return None


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What was found, and whether it was written. `silent`: hosts that did not tell, with how many of their ports are known."""

    found: Rebuild
    told: Told
    silent: Mapping[HostName, int]
    written: bool


def _show(result: _Result) -> None:
    found = result.found
    columns: Sequence[str] = ("HOST", "#GUESTS", "#INSTANCES", "#IMAGES", "TOLD")
    show_table(columns, _host_rows(found, result.told), empty="No host told anything.")
    columns = ("CONFLICT", "SUBJECT", "HOSTS", "WHAT IS", "WHAT TO DO")
    rows = [
        (one.kind.value, one.subject, ",".join(one.hosts), one.message, ADVICE[one.kind]) for one in found.conflicts
    ]
    if rows:
        show_table(columns, rows, empty="")
    for note in found.notes:
        say(f"{note.host or 'all hosts'}: {note.subject}: {note.message}")
    for host, ports in result.silent.items():
        known = f"; {ports} ports of its guests are known from others" if ports else ""
        say(f"host {host} did not tell what it has{known}: start its worker, or go on with --without-host {host}")
    counts = ", ".join(f"{count} {what}" for what, count in _counts(found).items())
    say(f"Written, and the store is open: {counts}." if result.written else f"Nothing was written. To write: {counts}.")


def _host_rows(found: Rebuild, told: Told) -> Iterator[Sequence[str]]:
    for host, holdings in sorted(told.items()):
        if holdings is None:
            yield host, "-", "-", "-", "nothing"
            continue
        instances = sum(one.host == host for one in found.instances)
        images = sum(one.host == host for one in found.images)
        yield host, str(len(holdings.guests)), str(instances), str(images), f"{len(holdings.networks)} networks"


def _counts(found: Rebuild) -> Mapping[str, int]:
    return {
        "networks": len(found.networks),
        "security groups": len(found.groups),
        "floating addresses": len(found.floating),
        "instances": len(found.instances),
        "images": len(found.images),
        "addresses kept for guests that are not recorded": sum(len(one.addresses) for one in found.reserved),
    }


def _view(result: _Result) -> dict[str, Any]:
    found = result.found
    return {
        "written": result.written,
        "counts": dict(_counts(found)),
        "hosts": [
            {
                "host": host,
                "told": holdings is not None,
                "guests": 0 if holdings is None else len(holdings.guests),
                "instances": [one.id for one in found.instances if one.host == host],
            }
            for host, holdings in sorted(result.told.items())
        ],
        "conflicts": [{**asdict(one), "advice": ADVICE[one.kind]} for one in found.conflicts],
        "notes": [asdict(one) for one in found.notes],
        "silent": dict(result.silent),
    }
