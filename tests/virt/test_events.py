"""What happens to guests is heard, in order, across every restart of libvirtd, and at a bounded cost."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import libvirt
import psutil
import pytest

from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import InstanceId
from taskvisor.model.lifecycle import Deaf, GuestEvent, Hearing, LifecycleChange, Missed, Said
from tests.fixtures.hosts import Libvirtd
from tests.fixtures.machine import ROOT
from tests.virt.bare_guests import bare_guest, qemu_pid
from virt import events as events_module
from virt.command import LineProgram
from virt.event_lines import parse_line
from virt.events import LifecycleEvents, Listener

TEST_URI = "test:///default"
LIMIT_S = 240.0
NOWHERE = "qemu+unix:///system?socket=/nonexistent/socket"
MAX_LISTENER_MIB = 48

pytestmark = pytest.mark.timeout(900)


def wait_for(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.02)


def changes_of(heard: list[GuestEvent], guest: InstanceId) -> list[tuple[LifecycleChange, str]]:
    return [(event.change, event.detail) for event in heard if event.instance_id == guest]


@pytest.fixture
def open_events() -> Iterator[Callable[..., LifecycleEvents]]:
    """Opens listeners of events, which are closed after the test."""
    opened: list[LifecycleEvents] = []

    def open_one(uri: str, **options: int) -> LifecycleEvents:
        opened.append(LifecycleEvents(uri, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def hear(events: LifecycleEvents, guest: InstanceId, until: LifecycleChange) -> list[tuple[LifecycleChange, str]]:
    """All that is heard of the guest, up to that change."""
    heard: list[GuestEvent] = []

    def has_come() -> bool:
        heard.extend(events.take(0.1))
        return any(change is until for change, _ in changes_of(heard, guest))

    wait_for(has_come, f"{until} of {guest}; heard {heard}")
    return changes_of(heard, guest)


# On libvirt's test driver


@pytest.fixture
def test_domain() -> Iterator["libvirt.virDomain"]:
    """The domain of libvirt's test driver, which runs; its hypervisor is this process."""
    connection = libvirt.open(TEST_URI)
    domain = connection.lookupByName("test")
    yield domain
    if not domain.isActive():
        domain.create()
    connection.close()


def test_what_is_done_to_a_guest_is_heard_in_its_order(
    open_events: Callable[..., LifecycleEvents], test_domain: "libvirt.virDomain"
) -> None:
    events, guest = open_events(TEST_URI), InstanceId(test_domain.UUIDString())
    assert events.ensure_listening()
    test_domain.suspend()
    test_domain.resume()
    test_domain.destroy()
    test_domain.create()

    assert hear(events, guest, LifecycleChange.STARTED) == [
        (LifecycleChange.PAUSED, "paused"),
        (LifecycleChange.RESUMED, "unpaused"),
        (LifecycleChange.STOPPED, "destroyed"),
        (LifecycleChange.STARTED, "booted"),
    ]


def test_it_registers_once_for_each_connection(open_events: Callable[..., LifecycleEvents]) -> None:
    events = open_events(TEST_URI)
    assert [events.ensure_listening() for _ in range(3)] == [True, False, False]
    events.close()
    assert events.ensure_listening()


def test_after_a_close_nothing_is_heard(
    open_events: Callable[..., LifecycleEvents], test_domain: "libvirt.virDomain"
) -> None:
    events, witness = open_events(TEST_URI), open_events(TEST_URI)
    events.ensure_listening()
    witness.ensure_listening()
    events.close()
    test_domain.suspend()
    test_domain.resume()
    hear(witness, InstanceId(test_domain.UUIDString()), LifecycleChange.RESUMED)
    assert events.take(0.0) == ()


def test_what_does_not_fit_is_counted_and_harms_nobody(
    open_events: Callable[..., LifecycleEvents], test_domain: "libvirt.virDomain"
) -> None:
    events, witness = open_events(TEST_URI, queue_limit=1), open_events(TEST_URI)
    events.ensure_listening()
    witness.ensure_listening()
    test_domain.suspend()
    test_domain.resume()
    hear(witness, InstanceId(test_domain.UUIDString()), LifecycleChange.RESUMED)

    told: list[Said] = []
    listener = Listener(events, told.append)

    def is_told() -> bool:
        listener.turn(0.0)
        return Missed(events=1) in told

    wait_for(is_told, "the event that found no room to be told of")
    assert [type(said) for said in told] == [GuestEvent, Missed]
    assert events.take_missed() == 0


def test_a_libvirtd_that_is_away_is_told_and_looked_for_less_and_less_often(
    open_events: Callable[..., LifecycleEvents], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "LOOK_S", 0.0)
    told: list[Said] = []
    listener, looked_at = Listener(open_events(NOWHERE), told.append), []
    for second in range(200):
        before = len(told)
        listener.turn(float(second))
        if len(told) > before:
            looked_at.append(second)

    assert looked_at == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
    assert all(isinstance(said, Deaf) and "nonexistent" in said.reason for said in told)


def test_a_listener_ends_with_who_reads_it() -> None:
    program = open_program(TEST_URI)
    process = psutil.Process(program.pid)
    wait_for(lambda: Hearing() in said_by(program), "the listener to hear")
    program.close()
    assert not process.is_running()


# On real ones


def open_program(uri: str) -> LineProgram:
    return LineProgram([sys.executable, "-m", "virt.events", uri], {**os.environ, "PYTHONPATH": str(ROOT)})


def said_by(program: LineProgram) -> list[Said]:
    return [parse_line(line) for line in program.read_lines(0.2)]


@pytest.mark.real
def test_what_happens_to_a_guest_of_qemu_is_heard(
    libvirtd: Libvirtd, open_events: Callable[..., LifecycleEvents]
) -> None:
    events = open_events(libvirtd.uri)
    events.ensure_listening()
    with bare_guest(libvirtd, "heard") as (guest, domain):
        assert hear(events, guest, LifecycleChange.STARTED)[-1] == (LifecycleChange.STARTED, "booted")
        domain.reset()
        domain.suspend()
        assert hear(events, guest, LifecycleChange.PAUSED)[-1] == (LifecycleChange.PAUSED, "paused")
        domain.resume()
        domain.destroy()
        told = hear(events, guest, LifecycleChange.STOPPED)
        assert [
            one for one in told if one[0] is not LifecycleChange.SHUTDOWN
        ] == [  # QEMU may say that it is told to end
            (LifecycleChange.RESUMED, "unpaused"),
            (LifecycleChange.STOPPED, "destroyed"),
        ]
        domain.create()
        hear(events, guest, LifecycleChange.STARTED)
        os.kill(qemu_pid(libvirtd, "heard"), signal.SIGKILL)
        assert hear(events, guest, LifecycleChange.STOPPED)[-1] == (LifecycleChange.STOPPED, "failed")


@pytest.mark.real
def test_a_restarted_libvirtd_is_listened_to_again_and_nothing_is_left_of_the_former_connections(
    libvirtd: Libvirtd, open_events: Callable[..., LifecycleEvents]
) -> None:
    events = open_events(libvirtd.uri)
    assert events.ensure_listening()
    open_files = psutil.Process().num_fds()
    for _ in range(3):
        libvirtd.stop()
        try:
            with pytest.raises(CannotAsk):
                events.ensure_listening()
        finally:
            libvirtd.start()
        wait_for(lambda: _listens_anew(events), "the libvirtd to be listened to again")
        assert not events.ensure_listening()
    assert psutil.Process().num_fds() <= open_files
    with bare_guest(libvirtd, "again") as (guest, _):
        assert hear(events, guest, LifecycleChange.STARTED)[-1] == (LifecycleChange.STARTED, "booted")


def _listens_anew(events: LifecycleEvents) -> bool:
    try:
        return events.ensure_listening()
    except CannotAsk:
        return False


@pytest.mark.real
def test_a_listener_outlives_a_libvirtd_that_hangs_or_restarts_and_stays_small(libvirtd: Libvirtd) -> None:
    program, said = open_program(libvirtd.uri), list[Said]()

    def comes(kind: type[Said]) -> bool:
        said[:] = [*said, *said_by(program)]
        return any(isinstance(one, kind) for one in said)

    try:
        wait_for(lambda: comes(Hearing), "the listener to hear")
        os.kill(libvirtd.pid, signal.SIGSTOP)
        try:
            said.clear()
            wait_for(
                lambda: comes(Deaf), "the listener to notice that libvirtd hangs"
            )  # keep-alives, and an open: 45 s
        finally:
            os.kill(libvirtd.pid, signal.SIGCONT)
        said.clear()
        wait_for(lambda: comes(Hearing), "the listener to hear again")
        libvirtd.stop()
        libvirtd.start()
        said.clear()
        with bare_guest(libvirtd, "third") as (_, domain):
            wait_for(lambda: comes(Hearing), "the listener to hear after the restart")
            domain.suspend()
            wait_for(lambda: comes(GuestEvent), "the listener to tell of the guest")
        assert psutil.Process(program.pid).memory_full_info().pss / 2**20 < MAX_LISTENER_MIB
        assert psutil.Process(program.pid).num_threads() <= 4
    finally:
        program.close()
