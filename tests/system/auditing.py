"""After every test with nodes: what is recorded is what is there, as `taskvisor verify` would find it. In this process: cheap."""

import time
from typing import TYPE_CHECKING

import msgspec

from taskvisor.client import Taskvisor
from taskvisor.compute.audit import confirmed, findings_for
from taskvisor.model.errors import TaskvisorError
from taskvisor.model.finding import AuditLimits, Code, Finding
from taskvisor.model.ids import HostName
from taskvisor.model.observed import HostSeen
from taskvisor.state.keys import Keys
from taskvisor.state.survey import Survey

if TYPE_CHECKING:
    from tests.system.nodes import Nodes

ANSWER_LIMIT_S = 120.0
LIMITS = AuditLimits(sweep_s=60.0, power_sync_s=3600.0)
"""No test runs beat, so nothing but the events of guests makes a record follow its domain; and the machine may be very slow."""
OF_THE_DEAD = frozenset({Code.HOST_SILENT, Code.QUEUE_ORPHANED})
"""What a node that the test killed leaves by that alone."""


def require_true_records(nodes: "Nodes") -> None:
    """AssertionError with what two audits find that the test has not said it leaves (`nodes.leaves`)."""
    found = _findings(nodes)
    if found:
        found = confirmed(found, _findings(nodes))
    left = [one for one in found if one.code not in nodes.leaves]
    assert not left, f"the test left: {[(one.code.value, one.subject, one.message) for one in left]}"


def _findings(nodes: "Nodes") -> tuple[Finding, ...]:
    """Only the host whose control node runs is asked; of others nothing is concluded."""
    survey = Survey(nodes.redis, Keys("taskvisor:"))
    before = survey.read(time.time())
    host = HostName(nodes.host)
    seen = {host: _look(nodes)} if nodes.runs("control") else {}
    after = survey.read(time.time())
    found = findings_for(before, seen, after, time.time(), LIMITS)
    lives = {host} if nodes.runs("control") else set[HostName]()
    return tuple(one for one in found if one.code not in OF_THE_DEAD or one.host in lives)


def _look(nodes: "Nodes") -> HostSeen | None:
    with Taskvisor(nodes.redis_url) as client:
        try:
            answer = client.look_at_host(nodes.host, expires_s=ANSWER_LIMIT_S).wait(ANSWER_LIMIT_S)
        except TaskvisorError:
            return None
    return msgspec.convert(answer, HostSeen)
