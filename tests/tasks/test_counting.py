"""What whole operations add to the counts: each thing that happened, once."""

from pathlib import Path

import pytest

from taskvisor.flow.transitions import WORKER_LOST
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.state.counters import CounterName
from tests.support.fleet import IMAGE, PERIOD_S, SMALL, Fleet
from tests.support.harness import deliver_or_die, recover
from tests.support.spies import DieAt
from tests.tasks.doors import refuse_once
from tests.tasks.edges import open_edge_app

H1 = HostName("h1")

STEPS = ("prepare_disk", "fetch_image", "render_xml", "plug_vif", "define_and_start")


def counted(fleet: Fleet, name: CounterName) -> dict[tuple[str, ...], int]:
    """The totals of one counter by its labels."""
    return {count.labels: count.total for count in fleet.store.counters.list_counts() if count.name is name}


def test_a_build_counts_its_steps_and_its_end(fleet: Fleet) -> None:
    fleet.build("web")

    assert counted(fleet, CounterName.OPERATIONS) == {("instance.build", "succeeded"): 1}
    assert counted(fleet, CounterName.STEP_TRIES) == {("instance.build", step, "do", "done"): 1 for step in STEPS}


def test_a_request_that_is_refused_is_no_operation_and_counts_as_none(fleet: Fleet) -> None:
    fleet.build("web")
    before = fleet.store.counters.read()

    with pytest.raises(Refused):
        fleet.build("web", "build-again")

    assert fleet.store.counters.read() == before


def test_a_message_that_comes_twice_adds_nothing(fleet: Fleet) -> None:
    operation = fleet.build("web")
    before = fleet.store.counters.read()

    fleet.post.launch(operation)
    fleet.post.deliver_all()

    assert fleet.store.counters.read() == before


def test_an_operation_that_gets_stuck_and_goes_on_comes_to_two_ends(fleet: Fleet) -> None:
    operation = fleet.begin_build("web")
    outsider = fleet.hosts[H1].outsider
    outsider.ensure_foreign_domain(operation.instance_id, "stranger")
    fleet.post.deliver_all()
    assert counted(fleet, CounterName.OPERATIONS) == {("instance.build", "stuck"): 1}
    outsider.ensure_domain_gone(operation.instance_id)

    fleet.post.launch(fleet.door.retry(operation.id))
    fleet.post.deliver_all()

    assert counted(fleet, CounterName.OPERATIONS) == {
        ("instance.build", "stuck"): 1,
        ("instance.build", "succeeded"): 1,
    }
    assert counted(fleet, CounterName.STEP_TRIES)["instance.build", "define_and_start", "do", "Contradiction"] == 1


def test_a_delete_that_takes_over_counts_the_end_of_what_it_stopped(fleet: Fleet) -> None:
    fleet.begin_build("web")

    fleet.ask("instance.delete", "del", instance="web")

    assert counted(fleet, CounterName.OPERATIONS) == {
        ("instance.build", "cancelled"): 1,
        ("instance.delete", "succeeded"): 1,
    }


def test_a_killed_try_is_counted_as_such(fleet: Fleet) -> None:
    fleet.begin_build("web")
    fleet.watch(DieAt(5))
    assert deliver_or_die(fleet)

    recover(fleet)

    lost = {
        labels: total for labels, total in counted(fleet, CounterName.STEP_TRIES).items() if labels[-1] == WORKER_LOST
    }
    assert lost == {("instance.build", "prepare_disk", "do", WORKER_LOST): 1}


def test_a_build_that_moves_on_is_counted(redis_url: str, memory_dir: Path) -> None:
    fleet = Fleet(redis_url, memory_dir, hosts=("h1", "h2"))
    refuse_once(fleet, "h1")

    fleet.build("web")
    fleet.close()

    assert counted(fleet, CounterName.OPERATIONS_RESCHEDULED) == {(): 1}


def test_an_operation_that_the_sweep_sends_on_counts_as_sent_again(fleet: Fleet) -> None:
    fleet.begin_build("web")
    fleet.post.chains.clear()
    fleet.clock.advance_to(fleet.clock.now() + PERIOD_S)

    fleet.sweep.run()
    fleet.post.deliver_all()

    assert counted(fleet, CounterName.OPERATIONS_SENT_AGAIN) == {(): 1}
    assert counted(fleet, CounterName.OPERATIONS) == {("instance.build", "succeeded"): 1}


def test_a_request_under_the_id_of_another_is_counted(fleet: Fleet, redis_url: str) -> None:
    with open_edge_app(redis_url, fleet) as app:
        for name in ("web1", "web2"):
            request = {"name": name, "image": IMAGE, "flavor": SMALL}
            app.tasks["instance.build"].apply(task_id="the-build", kwargs=request)

    assert counted(fleet, CounterName.REQUESTS_DROPPED_ID_IN_USE) == {(): 1}
    assert fleet.read("the-build").instance_name == "web1"
