"""What must hold at rest, when nothing goes wrong any more: all has ended, nothing is left, the timeline is true."""

from typing import Any

from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import OperationId, instance_id_for
from taskvisor.model.states import Direction, PowerState
from tests.simulate.disturbance import Disturbance
from tests.simulate.faults import Fault
from tests.simulate.invariants import Invariants
from tests.simulate.records import Seen
from tests.support.audits import audit
from tests.support.fleet import Fleet

LEFT_BY_LOST_WRITES = frozenset(
    {
        Code.DOMAIN_WITHOUT_RECORD,
        Code.DOMAIN_ELSEWHERE,
        Code.DOMAIN_MISSING,
        Code.DIRECTORY_WITHOUT_RECORD,
        Code.DIRECTORY_MISSING,
        Code.LINK_WITHOUT_RECORD,
        Code.LINK_MISSING,
        Code.DHCP_WITHOUT_RECORD,
        Code.DHCP_MISSING,
        Code.IMAGE_FILE_WITHOUT_RECORD,
        Code.IMAGE_FILE_MISSING,
    }
)
"""What a crash of Redis may leave between hosts and records. The audit names it; the records themselves stay whole."""

LACKING = frozenset({Code.DOMAIN_MISSING, Code.DIRECTORY_MISSING})


def require_rest(fleet: Fleet, invariants: Invariants, disturbance: Disturbance) -> None:
    """AssertionError with what is not so."""
    seen = invariants.read_all()
    for name, operation in seen.operations.items():
        _require_end(name, operation, invariants, disturbance)
        if name not in invariants.excused:
            _require_true_timeline(name, operation, disturbance)
    _require_results(seen, invariants)
    _require_builds(fleet, seen, invariants)
    _require_audit(fleet, invariants, half_deleted(seen))


def _require_end(name: str, operation: Any, invariants: Invariants, disturbance: Disturbance) -> None:
    assert operation["phase"] in ("succeeded", "failed", "cancelled", "stuck"), f"{name} is {operation['phase']}"
    assert operation.get("runner") is None, f"{name} has ended and has a runner"
    if operation["phase"] == "stuck" and name not in invariants.excused:
        blamed = disturbance.blamed.get(name, set())
        fair = any(fault is Fault.CONTRADICTION or way is Direction.UNDO for fault, way in blamed)
        assert fair, f"{name} is STUCK for nothing that was done to it: {operation['failure']}"
    if operation["phase"] == "failed" and name not in invariants.excused:
        failure = operation["failure"]
        assert invariants.blamed(name) or _is_fair(failure), f"{name} failed for nothing: {failure}"


def _is_fair(failure: Any) -> bool:
    """What goes wrong without a fault of ours: an image that is gone, or the disks of a guest that is half deleted."""
    return "there is no image" in failure["message"] or "which is not there" in failure["message"]


def _require_true_timeline(name: str, operation: Any, disturbance: Disturbance) -> None:
    entries = operation["timeline"]
    for former, entry in zip([None, *entries], entries, strict=False):
        assert entry["started_at"] <= entry["ended_at"], f"{name}: {entry} ends before it begins"
        late = former is None or former["ended_at"] <= entry["started_at"]
        assert late, f"{name}: {entry} begins before the end of {former}"
        assert entry["attempt"] >= 1, f"{name}: attempt of {entry}"
    told = [(entry["step"], entry["direction"], entry["host"]) for entry in entries]
    ran = [(step, way.value, host) for step, way, host in disturbance.runs.get(name, [])]
    missing = [run for run in ran if told.count(run) < ran.count(run)]
    assert not missing, (
        f"{name}: ran {missing[0]} {ran.count(missing[0])} times, {told.count(missing[0])} on the timeline"
    )
    done = [entry for entry in _told_done(entries) if entry not in ran]
    assert not done, f"{name}: {done} are said to be done, and never ran"
    if operation["phase"] == "succeeded":
        for step in operation["steps"]:
            last = [entry["outcome"] for entry in entries if entry["step"] == step["name"]][-1:]
            assert last == ["done"], f"{name} succeeded, and {step['name']} ended {last}"
            assert (step["do"], step["undo"]) == ("done", "pending"), f"{name} succeeded, and {step}"


def _told_done(entries: list[Any]) -> list[tuple[str, str, str]]:
    return [(entry["step"], entry["direction"], entry["host"]) for entry in entries if entry["outcome"] == "done"]


def _require_results(seen: Seen, invariants: Invariants) -> None:
    wanted = {"succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "FAILURE", "stuck": "FAILURE"}
    for name, phase in seen.phases.items():
        found = seen.results.get(name)
        fit = found == wanted[phase] or name in invariants.excused
        assert fit, f"{name} has {phase}, its caller sees {found}"


def _require_builds(fleet: Fleet, seen: Seen, invariants: Invariants) -> None:
    """A build that succeeded is one guest until it is deleted; one that did not is nothing, unless it was to be kept."""
    running = {
        domain.instance_id: (host.name, domain.power_state)
        for host in fleet.hosts.values()
        for domain in host.ports.hypervisor.list_domains()
    }
    deletes = [
        one for one in seen.operations.values() if (one["flow"], one["phase"]) == ("instance.delete", "succeeded")
    ]
    for name, operation in seen.operations.items():
        instance_id = instance_id_for(OperationId(name))
        if operation["flow"] != "instance.build" or {name, instance_id} & invariants.excused:
            continue
        there = seen.instances.get(instance_id)
        if operation["phase"] == "succeeded":
            later = [one["id"] for one in deletes if _is_of(one, instance_id, operation["settled_at"])]
            assert (there is None) == bool(later), f"{name} succeeded and was deleted by {later}; there is {there}"
        kept = operation["phase"] == "failed" and operation["request"].get("on_failure") == "keep"
        if operation["phase"] in ("failed", "cancelled") and not kept and instance_id not in half_deleted(seen):
            assert there is None, f"{name} has {operation['phase']}, and its instance is still recorded"
        at_rest = instance_id not in seen.leases  # who is STUCK keeps its instance, and its record as it was
        if there is not None and at_rest and there["vm_state"] == "active":
            wanted = (there["host"], PowerState.RUNNING)
            assert running.get(instance_id) == wanted, f"{there['name']} is active: {running.get(instance_id)}"


def half_deleted(seen: Seen) -> set[str]:
    """Instances of which a delete failed: they are in ERROR, with what is left of them, until they are deleted again."""
    deletes = [one for one in seen.operations.values() if one["flow"] == "instance.delete"]
    return {one["instance_id"] for one in deletes if one["phase"] in ("failed", "stuck")}


def _is_of(delete: Any, instance_id: str, after: float) -> bool:
    """The delete is of that instance as it was built last: an id may be used again for another build."""
    return bool(delete["instance_id"] == instance_id and delete["settled_at"] >= after)


def _require_audit(fleet: Fleet, invariants: Invariants, halves: set[str]) -> None:
    found = [finding for finding in audit(fleet) if not _is_excused(finding, invariants, halves)]
    assert not found, f"the audit finds {found[0].code.value}: {found[0].subject} {found[0].message}"


def _is_excused(finding: Finding, invariants: Invariants, halves: set[str]) -> bool:
    if finding.code is Code.OPERATION_STUCK:
        return True  # judged above
    if finding.code in LACKING and finding.subject in halves:
        return True  # a stop of what is left of it succeeds, and says STOPPED
    return finding.code in LEFT_BY_LOST_WRITES and bool(invariants.excused)
