"""Beat is the one that finds lost messages: whatever becomes of its Redis, it goes on."""

from collections.abc import Iterator

import pytest

from taskvisor.cli.nodes import BEAT
from tests.deaths.blows import pause
from tests.deaths.hosts import Installation, idle_installation
from tests.system.nodes import wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def beating() -> Iterator[Installation]:
    """Beat alone: what it sends stays in its queue, to be counted."""
    with idle_installation(["simulated"], sweep_s=1.0) as installation:
        installation.hosts[0].start(BEAT)
        _wait_for_a_beat(installation)
        yield installation
        assert installation.hosts[0].ended() == []


def _wait_for_a_beat(installation: Installation) -> None:
    installation.redis.delete("compute")
    wait_until(lambda: installation.redis.llen("compute"), f"beat to send: {installation.hosts[0].log_tail()}")


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_beat_outlives_a_restart_of_redis(beating: Installation, way: str) -> None:
    for _ in range(2):
        getattr(beating.server, way)()
        pause(1.5)
        beating.server.start()

        _wait_for_a_beat(beating)


def test_beat_takes_its_lock_again_when_it_has_lost_it(beating: Installation) -> None:
    beating.redis.delete("taskvisor:beat::lock")

    _wait_for_a_beat(beating)
    wait_until(lambda: beating.redis.exists("taskvisor:beat::lock"), "the lock to be held again")


def test_beat_writes_its_timetable_anew_when_redis_has_lost_everything(beating: Installation) -> None:
    before = set(beating.redis.zrange("taskvisor:beat::schedule", 0, -1))
    beating.redis.flushall()

    _wait_for_a_beat(beating)
    assert set(beating.redis.zrange("taskvisor:beat::schedule", 0, -1)) == before


def test_of_two_beats_one_is_silent(beating: Installation) -> None:
    """Whoever took the lock meanwhile keeps it; when that one is gone, ours goes on."""
    beating.redis.set("taskvisor:beat::lock", "another's")
    wait_until(lambda: "beat_lost_its_lock" in beating.hosts[0].log.read_text(), "beat to notice")
    beating.redis.delete("compute")

    pause(3.0)
    assert (beating.redis.llen("compute"), beating.redis.get("taskvisor:beat::lock")) == (0, "another's")

    beating.redis.delete("taskvisor:beat::lock")
    _wait_for_a_beat(beating)


def test_beat_started_without_its_redis_waits_for_it(beating: Installation) -> None:
    host = beating.hosts[0]
    host.kill(BEAT)
    beating.server.kill()
    host.start(BEAT)
    wait_until(lambda: "beat_found_redis_silent" in host.log.read_text(), "beat to look for Redis")
    beating.server.start()

    _wait_for_a_beat(beating)


def test_beat_outlives_a_restart_of_redis_while_it_waits_for_the_lock(beating: Installation) -> None:
    """The lock of a beat that was killed is held for seconds."""
    host = beating.hosts[0]
    host.kill(BEAT)
    host.start(BEAT)
    wait_until(lambda: host.log.read_text().count("beat: Starting...") == 2, "beat to start")
    pause(0.5)
    beating.server.kill()
    pause(1.0)
    beating.server.start()

    _wait_for_a_beat(beating)


def test_beat_ends_when_it_is_told_to_though_its_redis_is_away(beating: Installation) -> None:
    host = beating.hosts[0]
    beating.server.kill()
    wait_until(lambda: "beat_found_redis_silent" in host.log.read_text(), "beat to look for Redis")

    assert host.end(BEAT) == 0, host.log_tail()
