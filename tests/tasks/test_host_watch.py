"""Who fell silent and who is back is told once: in the log, in the stream, on the counters."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tasks.host_watch import HostWatch
from taskvisor.model.ids import HostName
from taskvisor.state.silence import Silence
from tests.support.fleet import KEYS, Fleet


@pytest.fixture
def watch(fleet: Fleet) -> HostWatch:
    return HostWatch(store=fleet.store, now=fleet.clock.now)


def told(fleet: Fleet) -> list[tuple[str, str, str]]:
    events = fleet.events.read_after("0", wait_s=0.01)
    return [(event.host, event.phase, event.outcome) for event in events if event.flow == "hosts.check"]


def fall_silent(fleet: Fleet) -> None:
    fleet.client.delete(KEYS.alive(HostName("h1")))


def test_a_host_that_lives_is_no_news(fleet: Fleet, watch: HostWatch) -> None:
    assert watch.run() == {"alive": 1, "fell_silent": 0, "came_back": 0}
    assert told(fleet) == []


def test_each_change_is_told_once_with_since_when(fleet: Fleet, watch: HostWatch) -> None:
    since = fleet.clock.now()
    fall_silent(fleet)
    with capture_logs() as logged:
        for _ in range(3):
            watch.run()
        fleet.clock.sleep(100)
        fleet.note_alive("h1")
        for _ in range(3):
            watch.run()

    assert told(fleet) == [("h1", "silent", f"since {since:.0f}"), ("h1", "back", f"silent since {since:.0f}")]
    assert [(line["event"], line["host"]) for line in logged] == [("host_fell_silent", "h1"), ("host_came_back", "h1")]
    assert logged[1]["silent_for_s"] == 100
    counts = fleet.store.counters.read()
    assert (counts["hosts_fell_silent"], counts["hosts_came_back"]) == (1, 1)


def test_a_host_that_is_no_more_is_forgotten(fleet: Fleet, watch: HostWatch) -> None:
    fall_silent(fleet)
    watch.run()
    fleet.client.srem(KEYS.hosts, "h1")

    watch.run()

    assert fleet.store.silence.read() == {}


class SeenBefore:
    """What is noted of silence, as a look a moment ago saw it."""

    def __init__(self, real: Silence) -> None:
        self._real, self._known = real, real.read()

    def read(self) -> dict[HostName, float]:
        return self._known

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_two_looks_at_once_tell_it_once(fleet: Fleet, watch: HostWatch) -> None:
    fall_silent(fleet)
    silence = SeenBefore(fleet.store.silence)
    twin = HostWatch(store=replace(fleet.store, silence=silence), now=fleet.clock.now)  # type: ignore[arg-type]
    watch.run()

    twin.run()

    assert len(told(fleet)) == 1
