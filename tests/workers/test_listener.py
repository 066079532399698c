"""What a control node makes of what it hears: looks, counts, and a listener that is kept running within bounds."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from taskvisor.compute.hold_back import HOLD_S
from taskvisor.model.errors import CannotAsk, Retryable
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, LifecycleChange, Missed, Said
from taskvisor.settings import Settings
from taskvisor.state.counters import CounterName
from virt.event_lines import line_for
from workers import listener as listener_module
from workers.bootsteps import ListenToGuests
from workers.listener import LOOKS_AT_ONCE, Ear, ListenerThread, listener_argv, listener_environment

LIMIT_S = 30.0
WEB, DB = InstanceId("web"), InstanceId("db")
Look = tuple[str, dict[str, str]]
ALL: Look = ("host.sync_power_states", {})


def heard(change: LifecycleChange, guest: InstanceId = WEB) -> GuestEvent:
    return GuestEvent(instance_id=guest, change=change, detail="")


def look_at(guest: InstanceId) -> Look:
    return ("host.sync_power_state", {"instance": guest})


STARTED, STOPPED = heard(LifecycleChange.STARTED), heard(LifecycleChange.STOPPED)


class Asked:
    """Who is asked for looks, and counts: an ear's surroundings. `silent_after` so many looks the broker is away."""

    def __init__(self, silent_after: int = 1000, hold_s: float = HOLD_S) -> None:
        self.looks: list[Look] = []
        self.counts: Counter[CounterName] = Counter()
        self.silent_after = silent_after
        self.ear = Ear(self._ask, self._count, ConnectionError, hold_s=hold_s)

    def _ask(self, task: str, fields: dict[str, str]) -> None:
        if len(self.looks) == self.silent_after:
            raise ConnectionError("no broker")
        self.looks.append((task, fields))

    def _count(self, name: CounterName, amount: int) -> None:
        self.counts[name] += amount


# The ear


def test_what_is_heard_of_a_guest_is_a_look_at_that_guest() -> None:
    asked = Asked()
    asked.ear.take([STARTED, heard(LifecycleChange.RESUMED), heard(LifecycleChange.PAUSED, DB)], 100.0)
    assert asked.looks == [look_at(WEB), look_at(DB)]
    assert asked.counts == {CounterName.GUEST_EVENTS: 3, CounterName.GUEST_LOOKS: 2}


def test_a_stop_is_looked_at_later_though_nothing_is_said_any_more() -> None:
    asked = Asked()
    asked.ear.take([STOPPED], 100.0)
    assert (asked.looks, asked.ear.due_in_s(101.0)) == ([], 14.0)
    asked.ear.take([], 115.0)
    asked.ear.take([], 200.0)
    assert asked.looks == [look_at(WEB)]
    assert asked.counts == {CounterName.GUEST_EVENTS: 1, CounterName.GUEST_STOPS_HELD: 1, CounterName.GUEST_LOOKS: 1}


def test_a_stop_and_a_start_are_one_look_and_a_stop_dropped() -> None:
    asked = Asked()
    asked.ear.take([STOPPED], 100.0)
    asked.ear.take([STARTED], 105.0)
    asked.ear.take([], 200.0)
    assert asked.looks == [look_at(WEB)]
    assert asked.counts[CounterName.GUEST_STOPS_DROPPED] == 1


@pytest.mark.parametrize("said", [Hearing(), Missed(events=7)])
def test_what_may_have_been_missed_is_a_look_at_all_guests_in_place_of_others(said: Said) -> None:
    asked = Asked()
    asked.ear.take([STARTED, said], 100.0)
    assert asked.looks == [ALL]
    assert asked.counts[CounterName.GUEST_EVENTS_LOST] == (7 if isinstance(said, Missed) else 0)


def test_many_guests_at_once_are_one_look_at_all() -> None:
    asked, guests = Asked(), [InstanceId(str(number)) for number in range(LOOKS_AT_ONCE + 1)]
    asked.ear.take([heard(LifecycleChange.STARTED, guest) for guest in guests[:-1]], 100.0)
    assert asked.looks == [look_at(guest) for guest in guests[:-1]]
    asked.looks.clear()
    asked.ear.take([heard(LifecycleChange.STARTED, guest) for guest in guests], 101.0)
    assert asked.looks == [ALL]


def test_it_knows_whether_it_hears() -> None:
    ear = Asked().ear
    assert not ear.hears
    ear.take([Hearing()], 0.0)
    assert ear.hears
    ear.take([STARTED], 1.0)
    assert ear.hears
    ear.take([Deaf(reason="libvirtd is away")], 2.0)
    assert not ear.hears


def test_being_deaf_is_no_reason_to_look() -> None:
    asked = Asked()
    asked.ear.take([Deaf(reason="libvirtd is away")], 2.0)
    assert asked.looks == []


def test_a_broker_that_is_away_costs_the_looks_and_nothing_else() -> None:
    asked = Asked(silent_after=1)
    asked.ear.take([STARTED, heard(LifecycleChange.STARTED, DB), heard(LifecycleChange.STARTED, InstanceId("x"))], 1.0)
    assert asked.looks == [look_at(WEB)]
    assert asked.counts == {CounterName.GUEST_EVENTS: 3, CounterName.GUEST_LOOKS: 1}
    asked.silent_after = 1000
    asked.ear.take([STARTED], 2.0)
    assert asked.looks == [look_at(WEB), look_at(WEB)]


# The thread


class Told:
    """A listener that says what it is given and then, if it is to, dies."""

    def __init__(self, *said: Said | bytes, dies: bool = False) -> None:
        self._lines = [one if isinstance(one, bytes) else line_for(one)[:-1] for one in said]
        self._dies = dies
        self.closed = False

    def read_lines(self, wait_s: float) -> tuple[bytes, ...]:
        lines, self._lines = tuple(self._lines), []
        if not lines and self._dies:
            raise Retryable("the listener was ended by SIGKILL")
        if not lines:
            time.sleep(min(wait_s, 0.01))
        return lines

    def close(self) -> None:
        self.closed = True


class Surroundings(Asked):
    """Also what is noted, and which listeners were opened, from a list of what there is to open.

    The store is away for the first `notes_lost` notes.
    """

    def __init__(self, *programs: Told | Exception, notes_lost: int = 0, hold_s: float = HOLD_S) -> None:
        super().__init__(hold_s=hold_s)
        self._programs = list(programs)
        self.opened: list[Told] = []
        self.notes: list[bool] = []
        self.notes_lost = notes_lost
        self.thread = ListenerThread(self.ear, self._open, self._note, self._count, note_every_s=0.05)

    def _open(self) -> Told:
        program = self._programs.pop(0) if self._programs else Told()
        if isinstance(program, Exception):
            raise program
        self.opened.append(program)
        return program

    def _note(self, hears: bool) -> None:
        if self.notes_lost:
            self.notes_lost -= 1
            raise CannotAsk("Redis is away")
        self.notes.append(hears)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Surroundings]]:
    """Runs a thread on these listeners; it has ended after the test, and closed what it opened."""
    monkeypatch.setattr(listener_module, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(listener_module, "RESTART_LAST_S", 0.02)
    begun: list[Surroundings] = []

    def run_one(*programs: Told | Exception, notes_lost: int = 0, hold_s: float = HOLD_S) -> Surroundings:
        begun.append(Surroundings(*programs, notes_lost=notes_lost, hold_s=hold_s))
        begun[-1].thread.start()
        return begun[-1]

    yield run_one
    for one in begun:
        one.thread.stop()
        assert not one.thread.is_alive()
        assert all(program.closed for program in one.opened)


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_what_the_listener_says_is_taken_and_that_it_hears_is_noted_again_and_again(
    run: Callable[..., Surroundings],
) -> None:
    around = run(Told(Hearing(), STARTED))
    wait_for(lambda: around.looks == [ALL])
    wait_for(lambda: around.notes.count(True) >= 3)
    assert len(around.opened) == 1


def test_a_listener_that_dies_is_counted_noted_and_started_again(run: Callable[..., Surroundings]) -> None:
    around = run(Told(Hearing(), dies=True), Told(Hearing()))
    wait_for(lambda: len(around.opened) == 2 and around.notes and around.notes[-1])
    assert around.counts[CounterName.GUEST_LISTENERS_DIED] == 1
    assert False in around.notes
    assert around.looks == [ALL, ALL]


def test_one_that_cannot_be_started_or_writes_rubbish_is_tried_again(run: Callable[..., Surroundings]) -> None:
    around = run(Retryable("no memory"), Told(b"Traceback"), Told(Hearing()))
    wait_for(lambda: around.ear.hears)
    assert around.counts[CounterName.GUEST_LISTENERS_DIED] == 2
    assert around.opened[0].closed


def test_a_mistake_of_ours_ends_no_thread(run: Callable[..., Surroundings]) -> None:
    around = run(ZeroDivisionError("a mistake"), Told(Hearing()))
    wait_for(lambda: around.ear.hears)
    assert around.counts[CounterName.GUEST_LISTENERS_DIED] == 1


@pytest.mark.parametrize(
    ("role", "driver", "listens"),
    [("control", "libvirt", True), ("steps", "libvirt", False), ("control", "simulated", False)],
)
def test_it_is_the_control_node_of_a_real_host_that_listens(
    monkeypatch: pytest.MonkeyPatch, role: str, driver: str, listens: bool
) -> None:
    node = SimpleNamespace(
        runs_control=role == "control", settings=SimpleNamespace(driver=driver), open_node=lambda: None
    )
    around = Surroundings(Told(Hearing()))
    monkeypatch.setattr(ListenToGuests, "host_node", node, raising=False)
    monkeypatch.setattr(listener_module, "listener_for", lambda *_: around.thread)
    worker = SimpleNamespace(app=None)
    step = ListenToGuests(worker)
    step.start(worker)
    assert around.thread.is_alive() is listens
    step.stop(worker)
    assert not around.thread.is_alive()


def test_a_store_that_is_away_does_not_end_it(run: Callable[..., Surroundings]) -> None:
    around = run(Told(Hearing()), notes_lost=2)
    wait_for(lambda: True in around.notes)
    assert around.notes_lost == 0


def test_a_stop_that_is_held_is_looked_at_also_while_the_listener_is_away(
    run: Callable[..., Surroundings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "RESTART_FIRST_S", 1000.0)
    around = run(Told(STOPPED, dies=True), hold_s=0.2)
    wait_for(lambda: around.looks == [look_at(WEB)])
    assert len(around.opened) == 1


def test_the_listener_is_this_very_code_for_this_very_libvirt() -> None:
    settings = Settings(libvirt_uri="qemu:///system")
    assert listener_argv(settings)[1:] == ("-m", "virt.events", "qemu:///system")
    assert listener_environment(settings)["PYTHONPATH"]
