"""Messages that are doubled, late, out of order, or nobody's: none of them changes anything."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from taskvisor.flow.runner import LETTING_GO_S, STOP, Dropped, Next, Onward
from taskvisor.model.change import Change
from taskvisor.model.errors import (
    Retryable,
)
from taskvisor.model.ids import HostName
from taskvisor.model.states import Direction, Phase
from tests.flow.toys import Bench, Script
from tests.support.world import read_everything
from workers.locks import InstanceLocks


def test_a_twin_that_finds_the_step_running_lets_go(bench: Bench, script: Script) -> None:
    answers: list[Next] = []
    script.acts = {"b": [lambda _: answers.append(bench.run("b"))]}

    assert bench.run_all().phase is Phase.SUCCEEDED
    assert ([answer.dropped for answer in answers], script.effects) == ([Dropped.TWIN_RUNNING], ["a", "b", "c"])


def test_a_message_waits_for_the_former_operation_to_let_go_of_the_instance(bench: Bench, script: Script) -> None:
    """An operation's end is seen before its process lets go, and the next one may be quicker."""
    accepted = bench.accept()
    with ExitStack() as former:
        assert former.enter_context(InstanceLocks(bench.locks_dir).hold(accepted.instance_id))
        bench.fleet.clock.on_sleep = former.close

        assert bench.run("a").onward is Onward.CONTINUE
    assert script.effects == ["a"]


def test_a_message_does_not_wait_for_ever(bench: Bench, script: Script) -> None:
    accepted, began_at = bench.accept(), bench.fleet.clock.now()
    with InstanceLocks(bench.locks_dir).hold(accepted.instance_id):
        assert bench.run("a").dropped is Dropped.TWIN_RUNNING
    assert bench.fleet.clock.now() - began_at == pytest.approx(LETTING_GO_S, abs=0.1)
    assert script.effects == []


def test_every_message_doubled_changes_nothing(bench: Bench, script: Script) -> None:
    bench.accept()
    while bench.fleet.post.chains:
        first = bench.fleet.post.chains[0]
        bench.fleet.post.deliver(first)
        bench.fleet.post.deliver(first)

    assert (bench.op().phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "c"])


@pytest.mark.parametrize("order", ["cba", "bac", "ccc", "cbcbca"])
def test_messages_out_of_order_are_dropped(bench: Bench, script: Script, order: str) -> None:
    bench.accept()
    bench.fleet.post.chains.clear()
    for step in order:
        bench.run(step)
    assert script.effects == (["a"] if "a" in order else [])

    bench.fleet.post.launch(bench.op())
    bench.fleet.post.deliver_all()

    assert (bench.op().phase, script.effects) == (Phase.SUCCEEDED, ["a", "b", "c"])


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("step", "abc")
def test_no_message_changes_one_that_has_ended(bench: Bench, script: Script, step: str, direction: Direction) -> None:
    bench.run_all()
    before = read_everything(bench.fleet.client)

    assert bench.run(step, direction) == STOP
    assert (read_everything(bench.fleet.client), script.effects) == (before, ["a", "b", "c"])


def test_a_message_that_names_no_operation_is_dropped(bench: Bench) -> None:
    before = read_everything(bench.fleet.client)

    dropped = Next(onward=Onward.STOP, dropped=Dropped.UNKNOWN_OPERATION)
    assert bench.run("a", operation_id="nobody's") == dropped
    assert read_everything(bench.fleet.client) == before


def test_a_message_of_another_flow_is_dropped(bench: Bench) -> None:
    bench.accept()
    before = read_everything(bench.fleet.client)

    assert bench.run("copy_disk") == Next(onward=Onward.STOP, dropped=Dropped.FOREIGN_STEP)
    assert read_everything(bench.fleet.client) == before


def test_a_message_that_went_to_another_host_is_dropped(bench: Bench, script: Script) -> None:
    accepted = bench.accept()
    moved = replace(accepted, host=HostName("h2"), revision=1)
    bench.fleet.store.journal.commit(Change(before=accepted, after=moved))

    assert bench.run("a") == STOP
    assert script.effects == []


def test_a_message_before_its_time_is_dropped(bench: Bench, script: Script) -> None:
    script.acts = {"a": [Retryable("later", delay_s=10.0)]}
    bench.accept()
    bench.run("a")

    assert bench.run("a") == STOP
    bench.fleet.clock.sleep(10.0)
    assert bench.run("a").onward is Onward.CONTINUE
    assert script.effects == ["a", "a"]


def test_a_double_of_a_done_step_lets_its_chain_go_on(bench: Bench, script: Script) -> None:
    bench.accept()
    bench.run("a")  # and the worker died before it sent the next

    assert bench.run("a") == Next(onward=Onward.CONTINUE)
    assert script.effects == ["a"]
