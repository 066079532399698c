"""An audit of a simulated fleet, as `taskvisor verify` makes one: the records, a look at each host, the records again."""

from collections.abc import Callable

from tasks.verify import host_seen
from taskvisor.compute.audit import findings_for
from taskvisor.model.finding import Finding
from taskvisor.state.survey import Survey
from tests.support.fleet import KEYS, Fleet


def nothing() -> None:
    """What happens while nobody does anything."""


def audit(
    fleet: Fleet, *, meanwhile: Callable[[], object] = nothing, afterwards: Callable[[], object] = nothing
) -> tuple[Finding, ...]:
    """What is found; `meanwhile` happens before the hosts are looked at, `afterwards` before the second reading."""
    survey = Survey(fleet.client, KEYS)
    before = survey.read(fleet.clock.now())
    meanwhile()
    up = [host for host in fleet.hosts.values() if not before.is_silent(host.name)]
    seen = {
        host.name: host_seen(host.ports, fleet.clock.now(), fleet.store.catalog.list_instances(host.name))
        for host in up
    }
    afterwards()
    after = survey.read(fleet.clock.now())
    return findings_for(before, seen, after, fleet.clock.now())
