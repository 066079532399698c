"""The moves of an instance's states: in the transaction of the record, once each, bounded, and gone with the instance."""

from dataclasses import replace

import pytest
import redis

from taskvisor.model.errors import Conflicting, UnreadableRecord
from taskvisor.model.history import MOVES_KEPT, Cause, Move, cause_of, move_view, states_of
from taskvisor.model.ids import OperationId
from taskvisor.model.operation import Failure
from taskvisor.model.records import Instance
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from taskvisor.state.admission import Admission
from taskvisor.state.history import Histories, record_move
from taskvisor.state.keys import Keys
from taskvisor.state.transaction import Transaction
from taskvisor.state.writing import Writer
from tests.support import records
from tests.support.fixtures import fleet, memory_dir
from tests.support.fleet import KEYS, Fleet

__all__ = ["fleet", "memory_dir"]

WEB = records.instance()
OFF = replace(WEB, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


@pytest.fixture
def histories(client: redis.Redis, keys: Keys) -> Histories:
    return Histories(client, keys)


def cause(reason: str = "so it was", at: float = 1.0) -> Cause:
    return Cause(by="power_sync", at=at, reason=reason)


def write(client: redis.Redis, keys: Keys, instance: Instance, why: Cause) -> None:
    tx = Transaction()
    record_move(tx, keys, instance, why)
    tx.run(client, "move")


def test_a_move_says_from_where_and_why(client: redis.Redis, keys: Keys, histories: Histories) -> None:
    write(client, keys, WEB, cause("began", 1.0))
    write(client, keys, OFF, cause("was switched off", 2.0))

    assert histories.read(WEB.id) == (
        Move(former=states_of(WEB), states=states_of(OFF), cause=cause("was switched off", 2.0)),
        Move(former=None, states=states_of(WEB), cause=cause("began", 1.0)),
    )


@pytest.mark.parametrize(
    "changes",
    [{"vm_state": VmState.ERROR}, {"task_state": TaskState.DELETING}, {"power_state": PowerState.PAUSED}],
)
def test_each_of_the_three_states_is_a_move_by_itself(
    client: redis.Redis, keys: Keys, histories: Histories, changes: dict[str, VmState | TaskState | PowerState]
) -> None:
    write(client, keys, WEB, cause())
    write(client, keys, replace(WEB, **changes), cause())  # type: ignore[arg-type]

    assert len(histories.read(WEB.id)) == 2


def test_a_write_that_changes_none_of_the_three_is_no_move(
    client: redis.Redis, keys: Keys, histories: Histories
) -> None:
    write(client, keys, WEB, cause("first"))
    before = client.dump(keys.history(WEB.id))
    write(client, keys, replace(WEB, metadata={"role": "db"}), cause("second"))

    assert client.dump(keys.history(WEB.id)) == before
    assert [move.cause.reason for move in histories.read(WEB.id)] == ["first"]


def test_the_last_moves_are_kept_and_the_oldest_says_from_where(
    client: redis.Redis, keys: Keys, histories: Histories
) -> None:
    for number in range(2 * MOVES_KEPT):
        write(client, keys, OFF if number % 2 else WEB, cause(at=float(number)))

    moves = histories.read(WEB.id)
    assert [move.cause.at for move in moves] == [float(at) for at in range(2 * MOVES_KEPT - 1, MOVES_KEPT - 1, -1)]
    assert (moves[-1].former, moves[-1].states) == (states_of(OFF), states_of(WEB))
    assert int(client.llen(keys.history(WEB.id))) == MOVES_KEPT + 1


def test_a_history_of_another_type_stops_no_transaction(client: redis.Redis, keys: Keys, histories: Histories) -> None:
    client.set(keys.history(WEB.id), "nonsense")
    tx = Transaction()
    record_move(tx, keys, WEB, cause())
    tx.do("SET", "after", "1")

    tx.run(client, "write")

    assert client.get("after") == "1"


@pytest.mark.parametrize(
    "text", ["", "active - 1", "active - x {}", "happy - 1 {}", "active - 1 {", "active none 1 {}"]
)
def test_an_entry_that_is_none_is_unreadable(client: redis.Redis, keys: Keys, histories: Histories, text: str) -> None:
    client.lpush(keys.history(WEB.id), text)

    with pytest.raises(UnreadableRecord, match="history of instance"):
        histories.read(WEB.id)


def test_a_refused_write_leaves_no_move(client: redis.Redis, writer: Writer, admission: Admission) -> None:
    with pytest.raises(Conflicting):
        admission.write_at_rest(WEB, OFF, cause())

    assert not client.exists(writer.keys.history(WEB.id))


def test_the_cause_of_an_operation_says_what_it_is_doing() -> None:
    operation = records.operation("stop-1", WEB, flow="instance.stop", updated_at=7.0)
    assert cause_of(operation) == Cause(by="stop-1", at=7.0, reason="running", flow="instance.stop", step="only")

    failure = Failure(code="OutOfTries", message="x" * 500, step="shut_down")
    failed = cause_of(replace(operation, phase=Phase.FAILED, failure=failure))
    assert (failed.step, len(failed.reason)) == ("shut_down", 200)
    assert failed.reason.startswith("failed: OutOfTries: xxx")


def test_a_life_is_told_with_every_move_and_its_operation(fleet: Fleet) -> None:
    fleet.build()
    fleet.ask("instance.stop", "stop-web", instance="web", timeout_s=0)
    web = fleet.instance()
    moves = Histories(fleet.client, KEYS).read(web.id)

    told = [
        (
            move.states.vm_state.value,
            move.states.task_state,
            move.states.power_state.label,
            move.cause.by,
            move.cause.step,
        )
        for move in reversed(moves)
    ]
    assert told[0][0] == "building"
    assert told[-3:] == [
        ("active", None, "running", "build-web", None),
        ("active", TaskState.POWERING_OFF, "running", "stop-web", "shut_down"),
        ("stopped", None, "shutdown", "stop-web", None),
    ]
    for older, newer in zip(moves[1:], moves, strict=False):
        assert newer.former == older.states
    assert all(move.cause.flow == f"instance.{move.cause.by.split('-')[0]}" for move in moves)
    assert moves[0].states == states_of(web)


def test_what_the_hypervisor_did_is_told_with_who_noticed(fleet: Fleet) -> None:
    fleet.build()
    web, h1 = fleet.instance(), next(iter(fleet.hosts.values()))
    h1.outsider.ensure_power_state(web.id, PowerState.SHUTDOWN)
    h1.report.sync_power_states()
    h1.outsider.ensure_power_state(web.id, PowerState.RUNNING)
    h1.report.sync_power_state(web.id)

    moves = Histories(fleet.client, KEYS).read(web.id)

    assert [(move.cause.by, move.cause.reason, move.states.vm_state) for move in moves[:2]] == [
        ("guest_event", "the hypervisor says running", VmState.ACTIVE),
        ("power_sync", "the hypervisor says shutdown", VmState.STOPPED),
    ]


def test_a_failed_build_that_was_kept_says_why(fleet: Fleet) -> None:
    failed = fleet.build(image="/nosuch", on_failure="keep")
    assert failed.failure is not None

    latest = Histories(fleet.client, KEYS).read(fleet.instance().id)[0]

    assert (latest.states.vm_state, latest.cause.step) == (VmState.ERROR, failed.failure.step)
    assert latest.cause.reason.startswith(f"failed: {failed.failure.code}: ")


def test_a_history_goes_with_its_instance(fleet: Fleet) -> None:
    fleet.build()
    web = fleet.instance()
    assert fleet.client.exists(KEYS.history(web.id))

    fleet.ask("instance.delete", "delete-web", instance="web")

    assert not fleet.client.exists(KEYS.history(web.id))
    assert Histories(fleet.client, KEYS).read(web.id) == ()


def test_a_build_that_is_rolled_back_leaves_no_history(fleet: Fleet) -> None:
    fleet.build(image="/nosuch")

    assert list(fleet.client.scan_iter(KEYS.history("*"))) == []


def test_a_move_is_shown_in_plain_words(fleet: Fleet) -> None:
    fleet.build()
    move = Histories(fleet.client, KEYS).read(fleet.instance().id)[0]

    view = move_view(move)

    assert view["states"] == {"vm_state": "active", "task_state": None, "power_state": "running"}
    assert view["former"] is not None
    assert (view["former"]["vm_state"], view["by"], view["flow"]) == ("building", "build-web", "instance.build")
    assert OperationId(view["by"]) == fleet.read("build-web").id
