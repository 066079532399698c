"""How an operation's record moves: a table, without store, clock or host."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from taskvisor.flow import transitions
from taskvisor.flow.transitions import BACKOFF_LIMIT_S, TIMELINE_LIMIT
from taskvisor.model.errors import (
    AlreadySo,
    Busy,
    CannotAsk,
    Contradiction,
    DoesNotFit,
    OutOfTries,
    Refused,
    Retryable,
)
from taskvisor.model.ids import HostName, OperationId
from taskvisor.model.operation import Failure, Operation, StepRecord
from taskvisor.model.states import Direction, Phase, TaskState, VmState
from tests.flow.operations import (
    D0,
    DEAD,
    DO,
    DONE,
    FAILURE,
    FLOW,
    GUEST,
    H1,
    H2,
    KEEPER,
    ME,
    NOW,
    PENDING,
    S0,
    STARTED,
    UNDO,
    back,
    op,
)
from tests.flow.toys import Script, toy_flow, toy_step


def test_an_accepted_operation_is_new_in_every_field() -> None:
    accepted = transitions.accepted(FLOW, OperationId("op"), GUEST, {"name": "web"}, 5.0, None)

    assert accepted == Operation(
        id=OperationId("op"),
        flow="toy",
        instance_id=GUEST.id,
        instance_name="web",
        host=H1,
        request={"name": "web"},
        phase=Phase.RUNNING,
        steps=(StepRecord(name="a"), StepRecord(name="b"), StepRecord(name="c")),
        created_at=5.0,
        updated_at=5.0,
    )


def test_an_operation_that_begins_again_keeps_its_timeline_and_counts_on() -> None:
    first = begun(op(), "a")
    former = replace(
        transitions.done(first, {}, 2.0), phase=Phase.FAILED, cancel_requested=True, failure=FAILURE, revision=9
    )

    again = transitions.accepted(FLOW, OperationId("op"), GUEST, {}, 50.0, former)

    assert (again.revision, again.token, again.created_at, again.updated_at) == (10, first.token + 1, 1.0, 50.0)
    assert again.timeline == former.timeline
    assert (again.failure, again.cancel_requested, again.steps[0].do) == (None, False, PENDING)


def begun(operation: Operation, step: str, now: float = NOW) -> Operation:
    return transitions.begun(operation, FLOW.step(step), ME, now)


def test_a_begun_step_costs_a_try_and_has_a_new_token() -> None:
    started = begun(op(D0, not_before=NOW, relaunches=4), "b")

    record = started.step("b")
    assert (record.do, record.tries, record.first_started_at) == (STARTED, 1, NOW)
    assert (started.token, started.revision, started.runner, started.runner_until) == (1, 1, ME, NOW + 60)
    assert (started.not_before, started.relaunches, started.updated_at) == (None, 0, NOW)


def test_a_step_that_begins_again_remembers_when_it_first_began() -> None:
    again = begun(begun(op(), "a", 10.0), "a", 20.0)

    assert (again.step("a").first_started_at, again.step("a").tries, again.token) == (10.0, 2, 2)


@pytest.mark.parametrize(
    "end",
    [
        lambda lost: begun(lost, "b", 20.0),
        lambda lost: transitions.given_up(lost, FLOW, FLOW.step("b"), 20.0),
        lambda lost: transitions.cancelled(lost, FLOW, 20.0),
        lambda lost: transitions.yielded(replace(lost, preempted_by=OperationId("x")), 20.0),
    ],
)
def test_a_try_whose_end_nobody_wrote_is_on_the_timeline(end: Callable[[Operation], Operation]) -> None:
    lost = replace(begun(op(D0), "b", 10.0), runner=DEAD, updated_at=15.0)

    (entry,) = end(lost).timeline

    assert (entry.step, entry.attempt, entry.host, entry.started_at, entry.ended_at, entry.outcome) == (
        *("b", 1, H1, 10.0, 20.0),
        "WorkerLost",
    )
    assert entry.message == "process 7 of h1 died in this try, or could not write its end"


def test_undoing_has_tries_of_its_own() -> None:
    started = begun(back(D0, S0), "b")

    record = started.step("b")
    assert (record.undo, record.undo_tries, record.do, record.tries) == (STARTED, 1, STARTED, 1)


def test_a_done_step_lets_go_and_leaves_its_facts_and_its_try_on_the_timeline() -> None:
    after = transitions.done(begun(op(D0), "b"), {"times": 1}, NOW + 3)

    assert (after.step("b").do, after.current_step, after.runner, after.runner_until) == (DONE, "c", None, None)
    assert after.facts == {"b": {"times": 1}}
    (entry,) = after.timeline
    assert (
        entry.step,
        entry.direction,
        entry.attempt,
        entry.host,
        entry.started_at,
        entry.ended_at,
        entry.outcome,
    ) == (
        "b",
        DO,
        1,
        H1,
        NOW,
        NOW + 3,
        "done",
    )


def test_a_step_without_facts_has_none() -> None:
    assert transitions.done(begun(op(), "a"), None, NOW).facts == {"a": {}}


def test_an_undone_step_keeps_the_facts_of_its_do() -> None:
    after = transitions.done(begun(back(D0, D0, facts={"b": {"times": 1}}), "b"), None, NOW)

    assert (after.step("b").undo, after.current_step, after.facts) == (DONE, "a", {"b": {"times": 1}})
    assert after.timeline[-1].direction is UNDO


def test_the_timeline_keeps_the_latest_tries() -> None:
    operation = op()
    for number in range(TIMELINE_LIMIT + 5):
        operation = transitions.done(begun(op(timeline=operation.timeline), "a", float(number)), None, NOW)

    assert len(operation.timeline) == TIMELINE_LIMIT
    assert operation.timeline[0].started_at == 5.0


def failed(operation: Operation, step: str, error: Exception, *, took_s: float = 0.0) -> Operation:
    return transitions.failed_try(operation, FLOW, FLOW.step(step), error, "the trace", NOW + took_s)


@pytest.mark.parametrize("error", [Refused("no"), AlreadySo("is so"), DoesNotFit("full"), OutOfTries("gone")])
def test_an_error_that_no_try_will_mend_turns_it_round(error: Exception) -> None:
    after = failed(begun(op(D0), "b"), "b", error)

    assert (after.phase, after.direction, after.current_step) == (Phase.ROLLING_BACK, UNDO, "b")
    assert after.failure == Failure(code=type(error).__name__, message=str(error), step="b")
    assert (after.runner, after.timeline[-1].outcome) == (None, type(error).__name__)


def test_a_bug_turns_it_round_and_keeps_its_traceback() -> None:
    after = failed(begun(op(), "a"), "a", KeyError("x"))

    assert after.phase is Phase.ROLLING_BACK
    assert after.failure == Failure(code="KeyError", message="'x'", step="a", traceback="the trace")


def test_an_error_without_words_is_told_by_its_class() -> None:
    failure = failed(begun(op(), "a"), "a", ValueError()).failure

    assert failure is not None
    assert failure.message == "ValueError"


def test_a_contradiction_is_left_alone() -> None:
    after = failed(begun(op(D0), "b"), "b", Contradiction("another's"))

    assert (after.phase, after.stuck_way, after.current_step, after.settled_at) == (Phase.STUCK, DO, "b", NOW)
    assert after.failure == Failure(code="Contradiction", message="another's", step="b")


@pytest.mark.parametrize(
    ("tries", "delay_s", "pause_s"),
    [(1, 1.0, 1.0), (2, 1.0, 2.0), (1, 7.0, 7.0), (2, 7.0, 14.0), (2, 50.0, BACKOFF_LIMIT_S)],
)
def test_a_retryable_error_backs_off_twice_as_long_each_time(tries: int, delay_s: float, pause_s: float) -> None:
    operation = op()
    for _ in range(tries):
        operation = begun(operation, "a")

    after = failed(operation, "a", Retryable("later", delay_s=delay_s))

    assert (after.phase, after.not_before, after.step("a").tries) == (Phase.RUNNING, NOW + pause_s, tries)


@pytest.mark.parametrize("error", [Retryable("later"), CannotAsk("silent")])
def test_a_retryable_error_is_bounded_by_the_steps_tries(error: Retryable) -> None:
    operation = begun(begun(begun(op(), "a"), "a"), "a")

    after = failed(operation, "a", error)

    assert after.phase is Phase.ROLLING_BACK
    assert after.failure == Failure(code="OutOfTries", message=f"{error} (tried 3 times)", step="a")


def test_being_busy_costs_no_try_but_its_time() -> None:
    operation = op()
    for waited_s in (12.0, 24.0, 36.0, 48.0):
        operation = failed(begun(operation, "a"), "a", Busy("wait", delay_s=10.0), took_s=2.0)
        assert (operation.step("a").tries, operation.step("a").waited_s) == (0, waited_s)
        assert operation.not_before == NOW + 2.0 + 10.0

    after = failed(begun(operation, "a"), "a", Busy("wait", delay_s=10.0), took_s=2.0)

    assert after.phase is Phase.ROLLING_BACK
    assert after.failure == Failure(code="OutOfTries", message="wait (waited 60 s, the limit is 50 s)", step="a")


@pytest.mark.parametrize("error", [Retryable("later"), Refused("no"), DoesNotFit("full"), KeyError("bug")])
def test_whatever_fails_an_undo_is_tried_again_and_then_a_person_must_look(error: Exception) -> None:
    operation = back(D0, S0)
    for tries in (1, 2):
        operation = failed(begun(operation, "b"), "b", error)
        assert (operation.phase, operation.step("b").undo_tries) == (Phase.ROLLING_BACK, tries)
        assert operation.not_before is not None

    after = failed(begun(operation, "b"), "b", error)

    assert (after.phase, after.stuck_way, after.current_step) == (Phase.STUCK, UNDO, "b")
    assert after.failure is not None
    assert after.failure.code == "OutOfTries"


def test_an_undo_that_finds_anothers_thing_is_stuck_at_once() -> None:
    after = failed(begun(back(D0, S0), "b"), "b", Contradiction("another's"))

    assert (after.phase, after.stuck_way) == (Phase.STUCK, UNDO)


def test_an_undo_may_wait_as_long_as_a_do() -> None:
    operation = back(D0, S0)
    operation = failed(begun(operation, "b"), "b", Busy("wait", delay_s=49.0))
    assert (operation.phase, operation.step("b").undo_tries) == (Phase.ROLLING_BACK, 0)

    after = failed(begun(operation, "b"), "b", Busy("wait", delay_s=2.0))

    assert (after.phase, after.failure and after.failure.code) == (Phase.STUCK, "OutOfTries")


def test_what_waited_forward_has_its_whole_wait_backward() -> None:
    waited = failed(begun(op(), "a"), "a", Busy("wait", delay_s=45.0))

    turned = failed(begun(waited, "a"), "a", Refused("no"))

    assert turned.step("a").waited_s == 0.0


def test_a_step_that_kills_its_worker_each_time_is_given_up() -> None:
    operation = begun(begun(begun(op(), "a"), "a"), "a")

    after = transitions.given_up(operation, FLOW, FLOW.step("a"), NOW)

    assert (after.phase, after.current_step) == (Phase.ROLLING_BACK, "a")
    assert after.failure is not None
    assert after.failure.code == "OutOfTries"
    assert after.failure.message.startswith("a began 3 times and its worker died")


def test_an_undo_that_kills_its_worker_each_time_is_stuck() -> None:
    after = transitions.given_up(back(D0, S0), FLOW, FLOW.step("b"), NOW)

    assert (after.phase, after.stuck_way) == (Phase.STUCK, UNDO)


def test_steps_that_have_nothing_to_take_back_are_taken_back_already() -> None:
    flow = toy_flow(toy_step("a", Script()), toy_step("b", Script(), undoable=False), toy_step("c", Script()))

    after = transitions.turned(op(D0, D0, S0), flow, FAILURE, NOW)

    assert transitions.messages_for(after) == ("c", "a")
    assert [record.undo for record in after.steps] == [PENDING, DONE, PENDING]


def test_what_never_began_is_not_taken_back() -> None:
    assert transitions.messages_for(transitions.turned(op(D0, S0), FLOW, FAILURE, NOW)) == ("b", "a")
    assert transitions.messages_for(transitions.turned(op(), FLOW, FAILURE, NOW)) == ()


@pytest.mark.parametrize(
    ("operation", "messages"),
    [
        (op(), ("a", "b", "c")),
        (op(D0, S0), ("b", "c")),
        (op(D0, D0, D0), ()),
        (back(D0, S0), ("b", "a")),
        (back(D0, (STARTED, STARTED)), ("b", "a")),
        (back(D0, (STARTED, DONE)), ("a",)),
        (back((DONE, DONE), (STARTED, DONE)), ()),
        *((op(phase=phase), ()) for phase in Phase if phase is Phase.WAITING or phase.settled),
    ],
)
def test_it_is_sent_on_from_where_its_journal_says_it_is(operation: Operation, messages: tuple[str, ...]) -> None:
    assert transitions.messages_for(operation) == messages


def test_a_wish_to_cancel_ends_a_pause_but_not_that_of_an_undo() -> None:
    forward = transitions.wished_away(op(not_before=NOW + 50), NOW)
    backward = transitions.wished_away(back(D0, S0, not_before=NOW + 50), NOW)

    assert (forward.cancel_requested, forward.not_before, forward.revision) == (True, None, 1)
    assert (backward.cancel_requested, backward.not_before) == (True, NOW + 50)


def test_a_wish_to_take_over_names_who_wishes_it() -> None:
    noted = transitions.preempted(op(D0, not_before=NOW + 50), OperationId("delete"), NOW)

    assert (noted.preempted_by, noted.not_before, noted.revision, noted.phase) == ("delete", None, 1, Phase.RUNNING)


def test_a_cancelled_one_says_why() -> None:
    asked = transitions.cancelled(op(D0, cancel_requested=True), FLOW, NOW)
    taken = transitions.cancelled(op(D0, preempted_by=OperationId("delete")), FLOW, NOW)

    assert asked.failure == Failure(code="Cancelled", message="cancelled on request", step="b")
    assert taken.failure == Failure(
        code="Cancelled", message="operation delete deletes the instance and waits for this one", step="b"
    )
    assert transitions.outcome_phase(asked) is Phase.CANCELLED


def test_a_yielded_one_ends_where_it_is() -> None:
    ended = transitions.yielded(op(D0, S0, preempted_by=OperationId("delete")), NOW)

    assert (ended.phase, ended.settled_at, ended.steps) == (Phase.CANCELLED, NOW, op(D0, S0).steps)
    assert ended.failure == Failure(
        code="Cancelled", message="operation delete deletes the instance and took over", step="b"
    )


@pytest.mark.parametrize(("way", "phase", "failure"), [(DO, Phase.RUNNING, None), (UNDO, Phase.ROLLING_BACK, FAILURE)])
def test_a_stuck_one_goes_on_its_way_with_fresh_tries(way: Direction, phase: Phase, failure: Failure | None) -> None:
    operation = op(D0, S0) if way is DO else back(D0, S0)
    stuck = transitions.stuck(begun(operation, "b"), FAILURE, NOW)

    going = transitions.resumed(stuck, NOW + 1)

    assert (going.phase, going.stuck_way, going.settled_at, going.failure) == (phase, None, None, failure)
    assert (going.step("b").tries, going.step("b").undo_tries, going.current_step) == (0, 0, "b")
    assert going.step("a").tries == 1


def test_one_that_moves_begins_anew_and_remembers_where_it_was() -> None:
    refused = back((DONE, DONE), (STARTED, DONE), facts={"a": {}}, excluded_hosts=(HostName("h0"),))

    moved = transitions.moved_to(refused, H2, ({"host": "h1", "rule": "excluded", "reason": "no"},), NOW)

    assert (moved.host, moved.phase, moved.failure, moved.facts) == (H2, Phase.RUNNING, None, {})
    assert moved.excluded_hosts == ("h0", "h1")
    assert moved.steps == (StepRecord(name="a"), StepRecord(name="b"), StepRecord(name="c"))
    assert moved.placement == ({"host": "h1", "rule": "excluded", "reason": "no"},)


@pytest.mark.parametrize(
    ("code", "reschedules", "moves"),
    [("DoesNotFit", True, True), ("DoesNotFit", False, False), ("Refused", True, False), ("Cancelled", True, False)],
)
def test_only_what_did_not_fit_goes_to_the_next_host(code: str, reschedules: bool, moves: bool) -> None:
    flow = toy_flow(*FLOW.steps, reschedules=reschedules)
    operation = replace(back(), failure=replace(FAILURE, code=code))

    assert transitions.wants_next_host(operation, flow) is moves


@pytest.mark.parametrize(
    ("code", "phase"), [("Cancelled", Phase.CANCELLED), ("Refused", Phase.FAILED), ("KeyError", Phase.FAILED)]
)
def test_the_end_of_a_roll_back_is_named_after_its_cause(code: str, phase: Phase) -> None:
    assert transitions.outcome_phase(replace(back(), failure=replace(FAILURE, code=code))) is phase


def test_a_woken_one_has_the_token_of_its_lease() -> None:
    woken = transitions.woken(op(phase=Phase.WAITING), 8, NOW)

    assert (woken.phase, woken.token, woken.revision) == (Phase.RUNNING, 8, 1)


def test_a_relaunched_one_waits_twice_as_long_next_time() -> None:
    noted = transitions.relaunched(op(relaunches=2), NOW)

    assert (noted.relaunches, noted.updated_at, noted.revision) == (3, NOW, 1)


@pytest.mark.parametrize(
    ("shown", "task_state", "after"),
    [
        (TaskState.SPAWNING, None, TaskState.SPAWNING),
        (TaskState.SPAWNING, TaskState.SPAWNING, None),
        (None, TaskState.SPAWNING, None),
    ],
)
def test_the_instance_shows_what_is_done_to_it(
    shown: TaskState | None, task_state: TaskState | None, after: TaskState | None
) -> None:
    step = toy_step("a", Script(), task_state=shown)
    guest = replace(GUEST, task_state=task_state, vm_state=VmState.BUILDING)

    changed = transitions.with_task_state(guest, step, op())

    assert (changed.task_state if changed else None) is after
    assert transitions.with_task_state(None, step, op()) is None


def test_a_flow_that_keeps_fails_where_it_is() -> None:
    after = transitions.failed_try(begun(op(D0), "b"), KEEPER, KEEPER.step("b"), Refused("no"), "", NOW)

    assert (after.phase, after.kept, after.left_alone, after.current_step) == (Phase.FAILED, True, ("a", "b"), "b")
    assert after.failure == Failure(
        code="Refused",
        message="no; what was done is kept on h1: `taskvisor ops retry op` goes on from b, `taskvisor delete web` takes it"
        " all back",
        step="b",
    )


def test_a_step_that_kills_its_worker_is_kept_too() -> None:
    after = transitions.given_up(begun(op(D0), "b"), KEEPER, KEEPER.step("b"), NOW)

    assert (after.phase, after.kept, after.failure and after.failure.code) == (Phase.FAILED, True, "OutOfTries")


@pytest.mark.parametrize(
    ("error", "cancel_requested", "phase"),
    [
        (DoesNotFit("full"), False, Phase.ROLLING_BACK),
        (Refused("no"), True, Phase.ROLLING_BACK),
        (Contradiction("another's"), False, Phase.STUCK),
    ],
)
def test_nothing_is_kept_where_it_can_do_no_good(error: Exception, cancel_requested: bool, phase: Phase) -> None:
    operation = replace(begun(op(D0), "b"), cancel_requested=cancel_requested)

    assert transitions.failed_try(operation, KEEPER, KEEPER.step("b"), error, "", NOW).phase is phase


def test_what_was_kept_goes_on_from_the_step_that_failed() -> None:
    kept = transitions.failed_try(begun(op(D0), "b"), KEEPER, KEEPER.step("b"), Refused("no"), "", NOW)

    going = transitions.resumed(replace(kept, settled_at=NOW), NOW + 1)

    assert (going.phase, going.failure, going.settled_at, going.kept) == (Phase.RUNNING, None, None, False)
    assert (going.current_step, going.step("b").tries, going.step("a").do) == ("b", 0, DONE)
    assert transitions.messages_for(going) == ("b", "c")


def test_nothing_is_kept_of_what_was_rolled_back() -> None:
    rolled_back = op((DONE, DONE), (STARTED, DONE), phase=Phase.FAILED, failure=FAILURE)

    assert (rolled_back.left_alone, rolled_back.kept) == ((), False)


@pytest.mark.parametrize(("way", "messages"), [(DO, ("b", "a")), (UNDO, ("b", "a"))])
def test_a_stuck_operation_is_taken_back_whichever_way_it_went(way: Direction, messages: tuple[str, ...]) -> None:
    stuck = op(D0, S0, phase=Phase.STUCK, stuck_way=way, failure=FAILURE, settled_at=NOW)

    back_again = transitions.taken_back(stuck, FLOW, NOW + 1)

    assert (back_again.phase, back_again.failure, back_again.settled_at) == (Phase.ROLLING_BACK, FAILURE, None)
    assert transitions.messages_for(back_again) == messages


def test_every_move_counts_one_revision() -> None:
    started = begun(op(), "a")
    moves = [
        started,
        transitions.done(started, None, NOW),
        failed(started, "a", Refused("no")),
        failed(started, "a", Retryable("later")),
        failed(started, "a", Contradiction("another's")),
        transitions.failed_try(started, KEEPER, KEEPER.step("a"), Refused("no"), "", NOW),
        transitions.given_up(started, FLOW, FLOW.step("a"), NOW),
        transitions.cancelled(started, FLOW, NOW),
        transitions.wished_away(started, NOW),
        transitions.preempted(started, OperationId("x"), NOW),
        transitions.relaunched(started, NOW),
        transitions.yielded(replace(started, preempted_by=OperationId("x")), NOW),
    ]

    assert [move.revision for move in moves] == [1, *[2] * 11]
