"""What is recorded against what is on the hosts: values in, findings out.

Everything moves while it is looked at, so nothing is said on a single look: the records are read before and after the hosts
are asked, and what both readings do not agree on is not judged. Nor is what an operation under way explains.

Must never know how records are read or hosts are asked, and never conclude from a host's silence that something is gone.
"""

from collections.abc import Mapping

from taskvisor.compute.audit_hosts import host_findings
from taskvisor.compute.audit_records import record_findings
from taskvisor.model.finding import AuditLimits, Finding
from taskvisor.model.ids import HostName
from taskvisor.model.observed import HostSeen
from taskvisor.model.survey import Records

DEFAULT_LIMITS = AuditLimits()


def findings_for(
    before: Records,
    seen: Mapping[HostName, HostSeen | None],
    after: Records,
    now: float,
    limits: AuditLimits = DEFAULT_LIMITS,
) -> tuple[Finding, ...]:
    """What is not as it should be, by both readings, in the order of code, host and subject.

    `seen` has an entry for each host that was asked, None when it did not answer. Hosts that were not asked are not judged.
    """
    at_first = {finding.identity for finding in record_findings(before, now, limits)}
    still = [finding for finding in record_findings(after, now, limits) if finding.identity in at_first]
    found = {finding.identity: finding for finding in [*still, *host_findings(before, seen, after, now, limits)]}
    return tuple(sorted(found.values(), key=_order))


def confirmed(first: tuple[Finding, ...], second: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those of the second audit that the first one found, too: what came and went while it was looked at is in one only."""
    known = {finding.identity for finding in first}
    return tuple(finding for finding in second if finding.identity in known)


def _order(finding: Finding) -> tuple[str, str, str]:
    return finding.code.value, finding.host or "", finding.subject
