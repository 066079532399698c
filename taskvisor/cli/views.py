"""Records as `-f json` shows them: plain JSON that scripts may rely on. User data and keys stay out."""

from collections.abc import Iterable, Iterator
from typing import TypedDict

from taskvisor.model.build_result import build_results_of
from taskvisor.model.fleet_views import ChoiceView, explanation_view
from taskvisor.model.host_views import HostMarkView, mark_view
from taskvisor.model.operation import Operation, StepRecord, TimelineEntry
from taskvisor.model.records import Host
from taskvisor.model.states import Direction, Mark, Phase


class FailureView(TypedDict):
    code: str
    step: str
    message: str


class StepView(TypedDict):
    name: str
    do: str
    undo: str
    tries: int
    undo_tries: int


class TimelineView(TypedDict):
    step: str
    way: str
    attempt: int
    host: str
    started_at: float
    ended_at: float
    outcome: str
    message: str | None


class OperationView(TypedDict):
    """Times are seconds since the epoch. `instance` is the instance's name.

    `left_alone` are the steps that a stuck or kept operation began and did not take back. `build_results` are by host, of a
    build: active, failed, failed_by_policy, rescheduled_by_policy.
    """

    id: str
    flow: str
    instance: str
    instance_id: str
    host: str
    phase: str
    step: str | None
    created_at: float
    updated_at: float
    settled_at: float | None
    cancel_requested: bool
    preempted_by: str | None
    failure: FailureView | None
    left_alone: list[str]
    steps: list[StepView]
    timeline: list[TimelineView]
    placement: list[dict[str, str]]
    build_results: dict[str, str]
    choice: ChoiceView | None


class HostView(TypedDict):
    """Amounts by name: vcpus, memory_mib, disk_gib and those of further kinds. `limits` is what may be claimed, `used` what is.

    A host with `problems` takes nothing; `remarks` are where it differs from what is recorded. `zone` None: it is in none.
    `failed_builds`: one after the other, since one last came to its end. `forced_down`: who
    called it dead. `draining`: how far it was emptied; None: it was not, or was given back.
    """

    name: str
    up: bool
    disabled_reason: str | None
    forced_down: HostMarkView | None
    draining: str | None
    instances: int
    used: dict[str, int]
    limits: dict[str, int] | None
    total: dict[str, int] | None
    disk_free_gib: int | None
    arch: str | None
    virt_type: str | None
    hypervisor_version: str | None
    domains: int | None
    reported_at: float | None
    problems: list[str]
    remarks: list[str]
    labels: dict[str, str]
    zone: str | None
    aggregates: list[str]
    failed_builds: int


def operation_view(operation: Operation) -> OperationView:
    """The operation with its steps, its timeline and why its host was chosen."""
    failure = operation.failure
    return {
        "id": operation.id,
        "flow": operation.flow,
        "instance": operation.instance_name,
        "instance_id": operation.instance_id,
        "host": operation.host,
        "phase": operation.phase.value,
        "step": None if operation.phase.settled else operation.current_step,
        "created_at": operation.created_at,
        "updated_at": operation.updated_at,
        "settled_at": operation.settled_at,
        "cancel_requested": operation.cancel_requested,
        "preempted_by": operation.preempted_by,
        "failure": None
        if failure is None
        else {"code": failure.code, "step": failure.step, "message": failure.message},
        "left_alone": list(operation.left_alone) if operation.phase is Phase.STUCK or operation.kept else [],
        "steps": [_step_view(step) for step in operation.steps],
        "timeline": [_timeline_view(entry) for entry in operation.timeline],
        "placement": [dict(row) for row in operation.placement],
        "build_results": {host: result.value for host, result in build_results_of(operation).items()},
        "choice": explanation_view(operation.placement, operation.choice)["choice"],
    }


def host_view(host: Host) -> HostView:
    """The host as it last reported."""
    inventory = host.inventory
    return {
        "name": host.name,
        "up": host.up,
        "disabled_reason": host.disabled_reason,
        "forced_down": mark_view(host.forced_down),
        "draining": host.draining.value if host.draining else None,
        "instances": host.instances,
        "used": dict(host.used.amounts()),
        "limits": dict(inventory.limits.amounts()) if inventory else None,
        "total": dict(inventory.total.amounts()) if inventory else None,
        "disk_free_gib": inventory.disk_free_gib if inventory else None,
        "arch": inventory.arch if inventory else None,
        "virt_type": inventory.virt_type.value if inventory else None,
        "hypervisor_version": inventory.hypervisor_version if inventory else None,
        "domains": inventory.domains if inventory else None,
        "reported_at": reported_at_of(host),
        "problems": list(inventory.problems) if inventory else [],
        "remarks": list(inventory.remarks) if inventory else [],
        "labels": dict(host.labels),
        "zone": host.zone,
        "aggregates": [aggregate.name for aggregate in host.aggregates],
        "failed_builds": host.failed_builds,
    }


def reported_at_of(host: Host) -> float | None:
    """When the host last said what it has; None when it never has. Older versions noted it in the inventory only."""
    return host.reported_at or (host.inventory.reported_at if host.inventory else None)


def step_seconds(operation: Operation, step: StepRecord, now: float) -> float | None:
    """How long the step took on its way forward, all tries and waits, or takes until `now`; None when it has not begun."""
    begun = step.first_started_at
    if begun is None:
        return None
    ends = [entry.ended_at for entry in _forward(operation.timeline, step.name) if entry.started_at >= begun]
    going_on = step.do is not Mark.DONE and operation.direction is Direction.DO and not operation.phase.settled
    until = now if going_on or not ends else ends[-1]
    return max(0.0, until - begun)


def _forward(timeline: Iterable[TimelineEntry], step: str) -> Iterator[TimelineEntry]:
    return (entry for entry in timeline if entry.step == step and entry.direction is Direction.DO)


def _step_view(step: StepRecord) -> StepView:
    return {
        "name": step.name,
        "do": step.do.value,
        "undo": step.undo.value,
        "tries": step.tries,
        "undo_tries": step.undo_tries,
    }


def _timeline_view(entry: TimelineEntry) -> TimelineView:
    return {
        "step": entry.step,
        "way": entry.direction.value,
        "attempt": entry.attempt,
        "host": entry.host,
        "started_at": entry.started_at,
        "ended_at": entry.ended_at,
        "outcome": entry.outcome,
        "message": entry.message,
    }
