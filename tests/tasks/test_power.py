"""instance.start, instance.stop and instance.reboot end to end, with guests that hear the power button and such that don't."""

from dataclasses import replace
from pathlib import Path

import pytest

from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.states import Phase, PowerState, TaskState, VmState
from tests.support.fleet import Fleet
from tests.support.harness import deliver_or_die, recover
from tests.support.spies import DieAt, Moment
from tests.tasks.doors import Failing
from virt.simulated import SimulatedHypervisor

H1 = HostName("h1")


def power(fleet: Fleet) -> PowerState:
    domain = fleet.hosts[H1].ports.hypervisor.read_domain(fleet.instance().id)
    assert domain is not None
    return domain.power_state


def boot_id(fleet: Fleet) -> int | None:
    domain = fleet.hosts[H1].ports.hypervisor.read_domain(fleet.instance().id)
    return domain.boot_id if domain else None


@pytest.fixture
def guest(fleet: Fleet) -> Fleet:
    """The fleet, with the guest web running."""
    fleet.build()
    return fleet


@pytest.fixture
def deaf_guest(fleet: Fleet, memory_dir: Path) -> Fleet:
    """The fleet, with the guest web, which does not hear the power button."""
    deaf = instance_id_for(OperationId("build-web"))
    host = fleet.hosts[H1]
    host.ports = replace(host.ports, hypervisor=SimulatedHypervisor(memory_dir / "h1", deaf=[deaf]))
    fleet.restart()
    fleet.build()
    return fleet


def test_a_stopped_guest_is_off(guest: Fleet) -> None:
    stopped = guest.ask("instance.stop", "stop", instance="web")

    assert stopped.facts["shut_down"] == {"clean": True}
    record = guest.instance()
    assert (record.vm_state, record.task_state, record.power_state, power(guest)) == (
        VmState.STOPPED,
        None,
        PowerState.SHUTDOWN,
        PowerState.SHUTDOWN,
    )


def test_a_started_guest_runs_with_its_links_and_its_claim(guest: Fleet) -> None:
    launched_at = guest.instance().launched_at
    guest.ask("instance.stop", "stop", instance="web")
    for port in guest.hosts[H1].neighbour.list_names():
        guest.hosts[H1].neighbour.ensure_foreign_link_gone(port)  # as after the host was rebooted

    started = guest.ask("instance.start", "start", instance="web")

    assert (started.phase, guest.instance().vm_state, power(guest)) == (
        Phase.SUCCEEDED,
        VmState.ACTIVE,
        PowerState.RUNNING,
    )
    assert len(guest.hosts[H1].ports.fabric.list_links()) == 1
    assert guest.instance().launched_at == launched_at


@pytest.mark.parametrize(("kind", "clean"), [("soft", True), ("hard", False)])
def test_a_rebooted_guest_was_started_anew(guest: Fleet, kind: str, *, clean: bool) -> None:
    before = boot_id(guest)

    rebooted = guest.ask("instance.reboot", "reboot", instance="web", type=kind)

    assert rebooted.facts["shut_down"] == {"clean": clean}
    assert boot_id(guest) not in (None, before)
    assert guest.instance().vm_state is VmState.ACTIVE


def test_a_guest_that_does_not_hear_is_asked_again_and_then_switched_off(deaf_guest: Fleet) -> None:
    pressed_at_s: list[float] = []
    began_at = deaf_guest.clock.now()

    def on_call(name: str, moment: Moment) -> None:
        if name == "hypervisor.request_shutdown" and moment is Moment.BEFORE:
            pressed_at_s.append(deaf_guest.clock.now() - began_at)

    deaf_guest.watch(on_call)
    stopped = deaf_guest.ask("instance.stop", "stop", instance="web")

    assert stopped.facts["shut_down"] == {"clean": False}
    assert deaf_guest.clock.now() - began_at == pytest.approx(60.0, abs=3.0)
    assert power(deaf_guest) is PowerState.SHUTDOWN
    assert pressed_at_s[0] == 0.0
    assert {int(at_s // 10) for at_s in pressed_at_s} == {0, 1, 2, 3, 4, 5}  # Nova's interval is 10 s
    assert stopped.step("shut_down").tries == 1  # its waits cost none
    assert {entry.outcome for entry in stopped.timeline} == {"Busy", "done"}


def test_a_guest_is_not_switched_off_because_nobody_was_there_to_ask_it(guest: Fleet) -> None:
    guest.begin("instance.stop", "stop", instance="web")
    guest.watch(DieAt(4))  # before it was asked
    assert deliver_or_die(guest)
    guest.clock.sleep(3600)

    recover(guest)

    assert guest.read("stop").facts["shut_down"] == {"clean": True}


@pytest.mark.parametrize(("timeout_s", "took_s"), [(0, 0.0), (5, 5.0)])
def test_a_stop_waits_as_long_as_it_was_told(deaf_guest: Fleet, timeout_s: int, took_s: float) -> None:
    began_at = deaf_guest.clock.now()

    deaf_guest.ask("instance.stop", "stop", instance="web", timeout_s=timeout_s)

    assert deaf_guest.clock.now() - began_at == pytest.approx(took_s, abs=0.5)
    assert power(deaf_guest) is PowerState.SHUTDOWN


def test_a_stop_may_be_cancelled_while_its_guest_takes_its_time(deaf_guest: Fleet) -> None:
    deaf_guest.begin("instance.stop", "stop", instance="web")
    deaf_guest.post.deliver(deaf_guest.post.chains[0])

    deaf_guest.post.launch(deaf_guest.door.cancel("stop"))
    deaf_guest.post.deliver_all()

    record = deaf_guest.instance()
    assert (deaf_guest.read("stop").phase, record.vm_state, record.task_state) == (
        Phase.CANCELLED,
        VmState.ACTIVE,
        None,
    )
    assert power(deaf_guest) is PowerState.RUNNING


def test_a_soft_reboot_of_a_deaf_guest_turns_hard(deaf_guest: Fleet) -> None:
    began_at, before = deaf_guest.clock.now(), boot_id(deaf_guest)

    rebooted = deaf_guest.ask("instance.reboot", "reboot", instance="web")

    assert (rebooted.phase, rebooted.facts["shut_down"]) == (Phase.SUCCEEDED, {"clean": False})
    assert deaf_guest.clock.now() - began_at == pytest.approx(120.0, abs=3.0)
    assert boot_id(deaf_guest) != before


@pytest.mark.parametrize(
    ("flow", "fields", "words"),
    [
        ("instance.stop", {}, [TaskState.POWERING_OFF]),
        ("instance.reboot", {}, [TaskState.REBOOT_PENDING, TaskState.REBOOT_STARTED]),
        ("instance.reboot", {"type": "hard"}, [TaskState.REBOOT_PENDING_HARD, TaskState.REBOOT_STARTED_HARD]),
    ],
)
def test_the_guest_shows_novas_words_while_it_is_done(
    guest: Fleet, flow: str, fields: dict[str, str], words: list[TaskState]
) -> None:
    seen: list[TaskState | None] = []

    def look(name: str, _: Moment) -> None:
        state = guest.instance().task_state
        if not name.startswith("journal.") and state not in seen:
            seen.append(state)

    guest.watch(look)

    guest.ask(flow, "op", instance="web", **fields)

    assert seen == words
    assert guest.instance().task_state is None


def test_a_guest_that_cannot_be_started_is_in_error_with_its_fault(guest: Fleet) -> None:
    guest.ask("instance.stop", "stop", instance="web")
    guest.use_port("fabric", Failing())

    failed = guest.ask("instance.start", "start", instance="web")

    record = guest.instance()
    assert (failed.phase, record.vm_state, record.task_state) == (Phase.FAILED, VmState.ERROR, None)
    assert record.fault is not None
    assert (record.fault.code, record.fault.step, record.fault.operation_id) == ("OutOfTries", "plug_vif", "start")
    guest.restart()
    assert guest.ask("instance.start", "start-2", instance="web").phase is Phase.SUCCEEDED
    assert (guest.instance().vm_state, guest.instance().fault) == (VmState.ACTIVE, None)


def test_a_guest_whose_domain_is_gone_is_stopped_and_started_anew(guest: Fleet) -> None:
    guest.hosts[H1].ports.hypervisor.ensure_undefined(guest.instance().id)

    assert guest.ask("instance.stop", "stop", instance="web").phase is Phase.SUCCEEDED
    assert guest.ask("instance.start", "start", instance="web").phase is Phase.SUCCEEDED
    assert power(guest) is PowerState.RUNNING


def test_a_paused_guest_is_rebooted(guest: Fleet) -> None:
    guest.hosts[H1].outsider.ensure_power_state(guest.instance().id, PowerState.PAUSED)

    assert guest.ask("instance.reboot", "reboot", instance="web", type="hard").phase is Phase.SUCCEEDED
    assert power(guest) is PowerState.RUNNING
