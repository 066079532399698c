"""What must hold at rest, when nothing goes wrong any more: all has ended, nothing is left, the timeline is true."""

import re
from collections.abc import Mapping, Set
from typing import Any

from net.plan import parse_owner
from taskvisor.model.finding import Code, Finding
from taskvisor.model.ids import OperationId, instance_id_for
from taskvisor.model.states import Direction, PowerState
from tests.simulate.callers import DELETES, IMAGES
from tests.simulate.disturbance import Disturbance
from tests.simulate.faults import Fault
from tests.simulate.invariants import Invariants
from tests.simulate.records import Seen
from tests.support.audits import audit
from tests.support.fleet import Fleet

ENDS = {"succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "FAILURE", "stuck": "FAILURE"}
"""What a caller sees, by how the operation ended."""
LEFT = ("failed", "stuck")
HALF_DELETED = {"instance.delete": ("error", "deleting"), "instance.reclaim": ("soft-delete", "deleting")}
"""What it makes of its instance when it has failed."""
SILENCE = frozenset({Fault.REDIS_RESTART, Fault.ANSWER_LOST})
EXPLAINED_BY: Mapping[str, frozenset[Fault]] = {
    "injected": frozenset({Fault.FAILING, Fault.CONTRADICTION}),
    "took longer than its limit": frozenset({Fault.SLOW}),
    "worker died or lost its node each time": frozenset({Fault.CHILD_DEATH}) | SILENCE,
    "Redis did not answer": SILENCE,
}
"""What a failure says, and the faults of which one must have befallen that very operation for it to say so."""
IMAGE_GONE = (
    "there is no image ",
    "no image of that name is registered",
    "is being deleted, so nothing is built from it",
)
"""What a build says whose image was deleted under it: at the fetch, or when it looks for another host."""


def require_rest(
    fleet: Fleet, invariants: Invariants, disturbance: Disturbance, *, asked: Set[str], lost: Set[str]
) -> None:
    """AssertionError with what is not so. `asked` are the ids of requests; of those in `lost` a message or the answer was."""
    seen = invariants.read_all()
    for name, operation in seen.operations.items():
        _require_end(name, operation)
        if not invariants.excuses.of_work(operation) and not _met_a_leftover(operation, invariants):
            _require_reason(name, operation, disturbance.blamed.get(name, set()))
        if not invariants.excuses.of_operation(name):
            _require_true_timeline(name, operation, disturbance)
    _require_results(seen, lost)
    for name in sorted(asked - lost):
        fit = seen.results.get(name) in ENDS.values() or invariants.excuses.of_operation(name)
        assert fit, f"{name} was asked, and its caller sees {seen.results.get(name)}"
    _require_half_deleted(seen)
    _require_builds(fleet, seen, invariants)
    _require_surroundings(fleet)
    _require_audit(fleet, invariants, half_deleted(seen))


def _require_surroundings(fleet: Fleet) -> None:
    """Each host was told last of the ports on its networks that are recorded now, wherever they are."""
    instances = fleet.store.catalog.list_instances()
    for host in fleet.hosts.values():
        told = {one.network.id: one for one in host.neighbour.list_surroundings()}
        here = {port.network_id for one in instances if one.host == host.name for port in one.ports}
        for network_id in here & told.keys():
            wanted = host.ports.networks.read_surroundings(network_id)
            assert told[network_id] == wanted, f"{host.name} was told last {told[network_id]}, recorded is {wanted}"
        for link in host.ports.fabric.list_links():
            owner = parse_owner(link.owner)
            ports = {port.id: port for one in instances if one.host == host.name for port in one.ports}
            if owner is not None and owner.port_id in ports:
                network = ports[owner.port_id].network_id
                assert network in told, f"{host.name} has {link.name}, and was told nothing of network {network}"


def _met_a_leftover(operation: Any, invariants: Invariants) -> bool:
    """It was refused a volume that the host is still connected to for an instance that a crash has set back."""
    said = (operation.get("failure") or {}).get("message", "")
    found = re.search(r"instance ([0-9a-f-]{36}) uses it on this host", said)
    return found is not None and invariants.excuses.of(found[1])


def _require_end(name: str, operation: Any) -> None:
    assert operation["phase"] in ("succeeded", "failed", "cancelled", "stuck"), f"{name} is {operation['phase']}"
    assert operation.get("runner") is None, f"{name} has ended and has a runner"


def _require_reason(name: str, operation: Any, blamed: Set[tuple[Fault, Direction]]) -> None:
    """What has not succeeded was told to stop, or a fault that befell it explains in its very words why."""
    phase, failure = operation["phase"], operation.get("failure")
    if phase == "cancelled":
        wished = operation.get("cancel_requested") or operation.get("preempted_by")
        assert wished, f"{name} is cancelled, and nobody wished it: {failure}"
    if phase in ("failed", "stuck"):
        way = operation.get("stuck_way") or Direction.DO
        befallen = {fault for fault, went in blamed if went == way}
        fair = any(words in failure["message"] and faults & befallen for words, faults in EXPLAINED_BY.items())
        fair = fair or _lost_its_image(operation, failure["message"])
        assert fair, f"{name} is {phase} for nothing that was done to it: {failure}, {sorted(befallen)}"


def _lost_its_image(operation: Any, message: str) -> bool:
    """A build was let in before its image was deleted, and came for the file afterwards."""
    from_image = operation["flow"] == "instance.build" and operation["request"]["image"] in IMAGES
    return from_image and any(words in message for words in IMAGE_GONE)


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


def _require_results(seen: Seen, lost: Set[str]) -> None:
    for name, phase in seen.phases.items():
        found = seen.results.get(name)
        asked_again = name in lost and found == "RETRY"  # another request of that id waited for its turn, and was lost
        assert found == ENDS[phase] or asked_again, f"{name} has {phase}, its caller sees {found}"


def _require_builds(fleet: Fleet, seen: Seen, invariants: Invariants) -> None:
    """A build that succeeded is one guest until it is deleted; one that did not is nothing, unless it was to be kept."""
    running = {
        domain.instance_id: (host.name, domain.power_state)
        for host in fleet.hosts.values()
        for domain in host.ports.hypervisor.list_domains()
    }
    deletes = [one for one in seen.operations.values() if one["flow"] in DELETES and one["phase"] == "succeeded"]
    for name, operation in seen.operations.items():
        instance_id = instance_id_for(OperationId(name))
        if operation["flow"] != "instance.build" or invariants.excuses.of_work(operation):
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
    """Instances of which a delete failed or is STUCK, or a reclaim was cancelled: the rest stays until they are deleted.

    Who has failed gives its lease back and leaves its fault. Its id may be used for another request since.
    """
    found: set[str] = set()
    for instance_id, there in seen.instances.items():
        holder = seen.leases.get(instance_id, {}).get("op") or (there.get("fault") or {}).get("operation_id")
        told = seen.operations.get(holder or "")
        if told is None:
            continue
        left = told["phase"] in LEFT or (told["flow"], told["phase"]) == ("instance.reclaim", "cancelled")
        failed = told["flow"] in DELETES and told["instance_id"] == instance_id and left
        used_again = told["instance_id"] != instance_id and there.get("task_state") == "deleting"
        if failed or used_again:
            found.add(instance_id)
    return found


def _require_half_deleted(seen: Seen) -> None:
    for instance_id in half_deleted(seen) - seen.leases.keys():  # who is STUCK leaves the record as it was
        there = seen.instances[instance_id]
        state, holder = (there["vm_state"], there.get("task_state")), there["fault"]["operation_id"]
        flow = seen.operations[holder]["flow"] if seen.operations[holder]["instance_id"] == instance_id else None
        wanted = [HALF_DELETED[flow]] if flow else list(HALF_DELETED.values())  # its id may be used for another since
        assert state in wanted, f"a delete of {there['name']} has failed, and it is {state}"


def _is_of(delete: Any, instance_id: str, after: float) -> bool:
    """The delete is of that instance as it was built last: an id may be used again for another build."""
    return bool(delete["instance_id"] == instance_id and delete["settled_at"] >= after)


def _require_audit(fleet: Fleet, invariants: Invariants, halves: set[str]) -> None:
    found = [finding for finding in audit(fleet) if not _is_excused(finding, invariants, halves)]
    assert not found, f"the audit finds {found[0].code.value}: {found[0].subject} {found[0].message}"


def _is_excused(finding: Finding, invariants: Invariants, halves: set[str]) -> bool:
    if finding.code is Code.OPERATION_STUCK:
        return True  # judged above
    if finding.code is Code.INSTANCE_WITHOUT_OPERATION and finding.subject in halves:
        return True  # it says DELETING until it is deleted again
    return invariants.excuses.of_finding(finding)
