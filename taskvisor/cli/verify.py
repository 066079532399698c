"""`taskvisor verify`: what is recorded against what is on the hosts. Asks and reads, and changes nothing but by `--fix`."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypedDict

import msgspec
import typer

from taskvisor.cli.exits import ExitCode, UsageError
from taskvisor.cli.fix import Fix, fix_all, require_mendable
from taskvisor.cli.records import Records, complete_host, open_client, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, say, show_rows
from taskvisor.client import Taskvisor
from taskvisor.client.handle import Handle
from taskvisor.compute.audit import confirmed, findings_for
from taskvisor.model.errors import Refused, TaskvisorError
from taskvisor.model.finding import ADVICE, AuditLimits, Code, Finding
from taskvisor.model.ids import HostName
from taskvisor.model.observed import HostSeen
from taskvisor.model.repair import REPAIRS
from taskvisor.settings import Settings

WAIT_S = 10.0


class DifferenceView(TypedDict):
    code: str
    place: str
    recorded: str | None
    found: str | None
    holds: str


class FindingView(TypedDict):
    code: str
    subject: str
    host: str | None
    message: str
    advice: str
    differences: list[DifferenceView]


def verify(
    host: Annotated[
        str | None,
        typer.Option(help="Look at this host only, and tell what concerns it.", autocompletion=complete_host),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds that hosts have to answer; one that does not is a finding.")
    ] = WAIT_S,
    fix: Annotated[
        Code | None, typer.Option(metavar="CODE", help="Mend the findings of this code, where that is safe.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="With --fix: of these only the one about this.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fix: say what would be done, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --fix: don't ask.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare what is recorded with what is on the hosts; change nothing but by --fix. Exits with 1 when they differ."""
    settings = settings_or_usage_error()
    if fix is None and (subject or dry_run or yes):
        raise UsageError("--subject, --dry-run and --yes go with --fix CODE")
    if fix is not None:
        require_mendable(fix)
    with open_records(settings) as records, open_client(settings) as client:
        audit = _Audit(
            records=records,
            client=client,
            limits=_limits_of(settings),
            wait_s=wait,
            only=HostName(host) if host else None,
        )
        findings = audit.run()
        if findings:  # what was made and gone between two readings is no drift: look again
            findings = confirmed(findings, audit.run())
        if fix is not None:
            raise typer.Exit(fix_all(client, findings, Fix(code=fix, subject=subject, dry_run=dry_run, yes=yes), form))
    _show(findings, form)
    raise typer.Exit(ExitCode.FAILED if findings else ExitCode.DONE)


def _limits_of(settings: Settings) -> AuditLimits:
    return AuditLimits(sweep_s=settings.sweep_s, power_sync_s=settings.power_sync_s)


@dataclass(frozen=True, kw_only=True)
class _Audit:
    """One fleet, and how it is to be looked at."""

    records: Records
    client: Taskvisor
    limits: AuditLimits
    wait_s: float
    only: HostName | None

    def run(self) -> tuple[Finding, ...]:
        """The records, the hosts, and the records again."""
        before = self.records.survey.read(time.time())
        if self.only is not None and self.only not in before.hosts:
            raise Refused(f"there is no host {self.only!r}; see `taskvisor hosts`")
        wanted = [self.only] if self.only is not None else list(before.hosts)
        seen = self._ask([host for host in wanted if not before.is_silent(host)])
        after = self.records.survey.read(time.time())
        found = findings_for(before, seen, after, time.time(), self.limits)
        return tuple(finding for finding in found if self.only is None or finding.host == self.only)

    def _ask(self, hosts: Iterable[HostName]) -> Mapping[HostName, HostSeen | None]:
        """What each host has; None for one that did not tell in time. All are asked at once."""
        asked = {host: self.client.look_at_host(host, expires_s=self.wait_s) for host in hosts}
        deadline = time.monotonic() + self.wait_s
        return {host: _answer(host, handle, deadline - time.monotonic()) for host, handle in asked.items()}


def _answer(host: HostName, handle: Handle[object], limit_s: float) -> HostSeen | None:
    try:
        return msgspec.convert(handle.wait(max(0.0, limit_s)), HostSeen)
    except TaskvisorError as error:
        say(f"host {host} did not tell what it has: {error}")
    except msgspec.ValidationError as error:
        say(f"host {host} answered what this version does not understand ({error}); is its worker of another version?")
    return None


def _show(findings: tuple[Finding, ...], form: Format) -> None:
    views = [_view(finding) for finding in findings]
    columns = ("CODE", "SUBJECT", "HOST", "WHAT IS", "WHAT TO DO")
    show_rows(form, columns, map(_row, findings), views, empty="Nothing was found: what is recorded is what is there.")


def _row(finding: Finding) -> tuple[str, ...]:
    return finding.code.value, finding.subject, finding.host or "-", finding.message, _advice_for(finding.code)


def _advice_for(code: Code) -> str:
    return f"`taskvisor verify --fix {code.value}`; or {ADVICE[code]}" if code in REPAIRS else ADVICE[code]


def _view(finding: Finding) -> FindingView:
    return {
        "code": finding.code.value,
        "subject": finding.subject,
        "host": finding.host,
        "message": finding.message,
        "advice": _advice_for(finding.code),
        "differences": [
            {
                "code": one.code,
                "place": one.place,
                "recorded": one.recorded,
                "found": one.found,
                "holds": one.holds.value,
            }
            for one in finding.differences
        ],
    }
