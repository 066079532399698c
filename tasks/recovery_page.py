"""`python -m tasks.recovery_page > docs/recovery.md`: what a start makes of every state, for people. A test holds the page fresh,
and each test that it names to be there.

The first table is Nova's `_init_instance`, row by row; the second is made from the flows themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.flows import ALL_FLOWS
from taskvisor.flow.step import Flow, Step
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.operation import Operation
from taskvisor.model.states import Phase, RebootType, TaskState

CRASHES = "tests/tasks/test_crashes.py"
RECOVERING = "tests/start/test_recovering.py"
DIES_ANYWHERE = f"{CRASHES}::test_a_worker_that_dies_anywhere_is_carried_on_to_the_unharmed_end"
HEALED = f"{RECOVERING}::test_every_state_that_was_left_comes_to_rest_and_nothing_is_touched"
FOLLOWS = f"{RECOVERING}::test_a_record_that_was_left_follows_its_hypervisor"
RESUMED = f"{RECOVERING}::test_guests_that_ran_are_started_after_a_boot_of_their_host"

HEAD = """# What a start makes of every state

Made by `python -m tasks.recovery_page`; do not edit. When a host's node starts, it holds the host's lock, so whatever ran here
is dead by proof. Then:

1. **An operation under way is sent on** from where its journal says it is, whatever its instance's states are
   (`HostNode.init_host`): on to its end, or back to where it began when it was being rolled back. STUCK ones stay so.
2. **A record that says something is being done, while no operation holds it,** is put at rest (`host.recover`): no write of ours
   leaves such a one, so the store was damaged. An event `healed` says what it said; the log has `left_record_healed`.
3. **Guests that ran when the machine went down** are started, if `TASKVISOR_RESUME_GUESTS` is on: a hard reboot each, through the
   door, once a boot, `TASKVISOR_STEP_CONCURRENCY` at once and then one each `TASKVISOR_RESUME_STAGGER_S`.
4. **Power states** follow the hypervisor, and **plugs** of guests that run are made whole (`post_start_hook`).

Nothing is stopped, undefined or removed by a start but as a step of an operation that was asked for. What can't be asked (Redis,
libvirt) is waited for or told, and never taken for absence.

## Nova's matrix

| # | Nova's condition | Nova | Taskvisor | shown by |
|---|---|---|---|---|
"""

MIDDLE = """
## Every task state

*Sent on*: the steps that show it, and so an operation that is sent on. *Healed*: what becomes of a record that bears it without
one. Nova leaves those marked † stuck until somebody resets them.

| task_state | sent on | without an operation |
|---|---|---|
"""

TAIL = f"""
Healed, the vm_state is: `error` for `building`, with a fault that says so; for `active`, `stopped`, `paused` and `suspended` what
the hypervisor says of the domain; any other stays (`{FOLLOWS.rpartition("/")[2]}`).

Rescue, resize, rebuild, shelving and migration have no flows yet. When they come, their operations are sent on by being flows.
"""

NEVER_RECOVERED = frozenset(
    {
        TaskState.IMAGE_BACKUP,
        TaskState.UPDATING_PASSWORD,
        TaskState.RESIZE_MIGRATED,
        TaskState.RESIZE_FINISH,
        TaskState.RESIZE_REVERTING,
        TaskState.RESIZE_CONFIRMING,
        TaskState.SUSPENDING,
        TaskState.RESUMING,
        TaskState.RESCUING,
        TaskState.UNRESCUING,
        TaskState.SOFT_DELETING,
        TaskState.RESTORING,
        TaskState.SHELVING,
        TaskState.SHELVING_IMAGE_PENDING_UPLOAD,
        TaskState.SHELVING_IMAGE_UPLOADING,
        TaskState.SHELVING_OFFLOADING,
        TaskState.UNSHELVING,
        TaskState.PAUSING,
    }
)
"""By Nova, as of 2015 and of today."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of Nova's matrix, what we do instead, and the tests (`file::function`) that show it."""

    number: str
    condition: str
    nova: str
    ours: str
    shown_by: tuple[str, ...]


SENT_ON = "its operation is sent on, and comes to its end or is rolled back"
ROWS = (
    Row(
        number="1",
        condition="the instance is another host's",
        nova="warns",
        ours="not looked at: records are read by host. Guests of another host under a new identity refuse the start",
        shown_by=("tests/start/test_identity.py::test_guests_of_another_host_are_never_taken_over",),
    ),
    Row(
        number="2",
        condition="soft-delete, or error without a task",
        nova="nothing",
        ours="nothing",
        shown_by=(HEALED,),
    ),
    Row(
        number="3",
        condition="deleted, the row not yet gone",
        nova="deletes the rest",
        ours="there is no such record: record, name, claim and addresses go in one transaction; a delete before that is sent on",
        shown_by=(DIES_ANYWHERE,),
    ),
    Row(
        number="4",
        condition="building, or scheduling to spawning",
        nova="**error**",
        ours=f"{SENT_ON}: the build goes on from the step that died. Its operation lost: error, with a fault",
        shown_by=(DIES_ANYWHERE, f"{RECOVERING}::test_a_build_that_was_lost_can_be_deleted"),
    ),
    Row(
        number="5",
        condition="rebuilding, rebuild_*",
        nova="**error**",
        ours="no flow yet; healed to rest",
        shown_by=(HEALED,),
    ),
    Row(
        number="6",
        condition="image_snapshot*, image_*upload*",
        nova="deletes the half-made image, task None",
        ours=f"{SENT_ON}: a copy under way is ended, a frozen guest thawed, saved memory brought back; then it is taken anew",
        shown_by=(DIES_ANYWHERE, "tests/tasks/test_crash_snapshots.py"),
    ),
    Row(
        number="7",
        condition="resize_prep",
        nova="task None",
        ours="no flow yet; healed to rest",
        shown_by=(HEALED,),
    ),
    Row(
        number="8",
        condition="deleting",
        nova="deletes again; failure: error",
        ours="its delete is sent on. One that failed for good keeps the word, and takes only another delete",
        shown_by=(DIES_ANYWHERE, f"{RECOVERING}::test_a_delete_that_failed_stays_to_be_asked_again"),
    ),
    Row(
        number="9",
        condition="reboot_pending*, reboot_started*, not running",
        nova="casts the reboot again, hard if it must",
        ours=f"{SENT_ON}, from shutting down or from starting, as it was asked",
        shown_by=(DIES_ANYWHERE,),
    ),
    Row(
        number="10",
        condition="running, and reboot_started*, pausing, unpausing",
        nova="task None, active",
        ours=f"{SENT_ON}: what runs already is not started again. Its operation lost: healed to what the domain is",
        shown_by=(DIES_ANYWHERE, FOLLOWS),
    ),
    Row(
        number="11",
        condition="paused, and unpausing",
        nova="unpauses",
        ours="no flow yet; healed to paused, which is so",
        shown_by=(FOLLOWS,),
    ),
    Row(
        number="12",
        condition="powering-off, powering-on",
        nova="stops or starts again, errors swallowed",
        ours=f"{SENT_ON}; an error is told to its caller",
        shown_by=(DIES_ANYWHERE,),
    ),
    Row(
        number="13",
        condition="all others",
        nova="plugs VIFs; failure: **error**",
        ours="plugs of guests that run are looked at and only what is missing is made again; a failure is logged, and the next"
        " look tries again",
        shown_by=(
            "tests/tasks/test_replug.py::test_what_somebody_removed_of_a_running_guests_plug_is_made_again_and_told",
            "tests/tasks/test_replug.py::test_a_link_of_a_strangers_in_its_place_is_left_alone_and_others_are_restored",
        ),
    ),
    Row(
        number="14, 15",
        condition="resize_migrating, migrating",
        nova="reverts, or aborts the job; task None",
        ours="no flow yet; healed to rest",
        shown_by=(HEALED,),
    ),
    Row(
        number="16",
        condition="recorded as running, and is not",
        nova="with `resume_guests_state_on_host_boot` a hard reboot; failure: **error**",
        ours="with `TASKVISOR_RESUME_GUESTS` a hard reboot after a boot of the host, volumes connected first; else, and after a"
        " mere restart of the worker, the record follows: stopped",
        shown_by=(
            RESUMED,
            f"{RECOVERING}::test_a_volume_is_connected_again_before_its_guest_is_started",
            f"{RECOVERING}::test_once_a_boot_is_once",
            f"{RECOVERING}::test_where_it_is_not_wished_guests_are_stopped_and_stay_so",
            f"{RECOVERING}::test_a_death_in_the_midst_of_it_costs_no_guest_and_starts_none_twice",
        ),
    ),
    Row(
        number="†",
        condition="the states that Nova never recovers, below",
        nova="stuck",
        ours="where there is a flow it is sent on; without an operation, healed to rest",
        shown_by=(HEALED, FOLLOWS),
    ),
    Row(
        number="evac.",
        condition="guests that were evacuated away",
        nova="**destroyed**",
        ours="left alone: `taskvisor verify` names them (`domain-elsewhere`)",
        shown_by=("tests/start/test_identity.py::test_strays_do_not_stop_a_host_that_is_known",),
    ),
)


def recovery_page() -> str:
    """The page, in Markdown."""
    return HEAD + "".join(map(_line, ROWS)) + MIDDLE + "".join(map(_state_line, TaskState)) + TAIL


def steps_showing(state: TaskState) -> tuple[str, ...]:
    """The tasks of all steps that say that their instance is in that state, by name."""
    return tuple(sorted({task for task, shown in _shown() if shown is state}))


def _line(row: Row) -> str:
    tests = "; ".join(f"`{test.rpartition('/')[2]}`" for test in row.shown_by)
    return f"| {row.number} | {row.condition} | {row.nova} | {row.ours} | {tests} |\n"


def _state_line(state: TaskState) -> str:
    mark = " †" if state in NEVER_RECOVERED else ""
    shown = ", ".join(f"`{task}`" for task in steps_showing(state)) or "no flow shows it"
    without = "stays, for another delete" if state is TaskState.DELETING else "healed"
    return f"| {state.value}{mark} | {shown} | {without} |\n"


def _shown() -> Iterator[tuple[str, TaskState | None]]:
    for flow in ALL_FLOWS:
        for step in flow.steps:
            yield from ((flow.task_name(step.name), shown) for shown in _words_of(flow, step))


def _words_of(flow: Flow, step: Step[Any]) -> Iterator[TaskState | None]:
    """A step's word may depend on the request: so far on how hard a reboot is to be."""
    for type_ in RebootType:
        yield step.task_state_for(
            Operation(
                id=OperationId("page"),
                flow=flow.name,
                instance_id=InstanceId("page"),
                instance_name="page",
                host=HostName("page"),
                request={"type": type_.value},
                phase=Phase.RUNNING,
                steps=(),
                created_at=0.0,
                updated_at=0.0,
            )
        )


if __name__ == "__main__":
    print(recovery_page(), end="")
