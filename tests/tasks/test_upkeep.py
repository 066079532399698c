"""What hosts do unasked for their image caches, and for whoever accounts for instances."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tasks.image_upkeep import ImageUpkeep
from tasks.usage_audit import UsageAudit
from taskvisor.model.errors import Busy, CannotAsk, TaskvisorError
from taskvisor.model.ids import HostName
from taskvisor.model.plan import CachedImage
from taskvisor.model.records import ImageSource
from taskvisor.state.codec import encode
from tests.support.fleet import KEYS, Fleet
from tests.support.records import image
from virt.simulated import SimulatedImageCache

H1, HOUR_S = HostName("h1"), 3600.0
LONG_AGO = 1_600_000_000.0


def register(fleet: Fleet, name: str, **fields: object) -> None:
    made = replace(image(name), **{"source": ImageSource(url=f"simulated://{name}"), "host": None, **fields})  # type: ignore[arg-type]
    fleet.client.set(KEYS.image(name), encode(made))
    fleet.client.hset(KEYS.images, name, made.id)


def upkeep(fleet: Fleet, *names: str, images: object = None) -> ImageUpkeep:
    ports = fleet.hosts[H1].ports
    return ImageUpkeep(
        catalog=fleet.store.catalog,
        host=H1,
        images=images or ports.images,  # type: ignore[arg-type]
        disks=ports.disks,
        names=names,
    )


def test_named_images_are_in_the_cache_before_a_build_asks_for_them(fleet: Fleet) -> None:
    register(fleet, "debian")

    assert upkeep(fleet, "debian").prewarm() == {"there": 1}
    assert upkeep(fleet, "debian").prewarm() == {"there": 1}

    assert len(list((fleet.hosts[H1].root / "cache").glob("*.qcow2"))) == 1


def test_what_can_not_be_had_hinders_no_other(fleet: Fleet) -> None:
    register(fleet, "debian")
    register(fleet, "missing", source=ImageSource(url="file:///nosuch"))
    register(fleet, "snapshot", host=HostName("h2"))

    with capture_logs() as logged:
        outcome = upkeep(fleet, "nobody", "missing", "snapshot", "debian").prewarm()

    assert outcome == {"unknown": 1, "failed": 1, "left_out": 1, "there": 1}
    assert [line["event"] for line in logged] == ["prewarm_image_unknown", "image_not_prewarmed"]


class Raising:
    """A cache that fails so."""

    def __init__(self, error: TaskvisorError) -> None:
        self._error = error

    def ensure_cached(self, source: object, progress: object) -> CachedImage:
        raise self._error


def test_an_image_that_a_build_fetches_is_left_to_it(fleet: Fleet) -> None:
    register(fleet, "debian")

    assert upkeep(fleet, "debian", images=Raising(Busy("fetched", delay_s=1.0))).prewarm() == {"being_fetched": 1}


def test_a_store_that_is_silent_ends_the_run(fleet: Fleet) -> None:
    register(fleet, "debian")

    with pytest.raises(CannotAsk):
        upkeep(fleet, "debian", images=Raising(CannotAsk("silence"))).prewarm()


def test_an_old_image_that_no_disk_stands_on_goes(fleet: Fleet, memory_dir: Path) -> None:
    fleet.build()
    register(fleet, "other")
    upkeep(fleet, "other").prewarm()
    for path in (fleet.hosts[H1].root / "cache").glob("*.qcow2"):
        os.utime(path, (LONG_AGO, LONG_AGO))

    assert upkeep(fleet, images=SimulatedImageCache(fleet.hosts[H1].root)).clean() == {"images": 1, "freed_mib": 0}
    assert fleet.build("second").result is not None


def test_no_image_goes_while_the_disks_of_an_instance_are_not_to_be_seen(fleet: Fleet) -> None:
    fleet.build()
    root = fleet.hosts[H1].root
    (root / "instances" / fleet.instance().id).rename(root / "elsewhere")
    for path in (root / "cache").glob("*.qcow2"):
        os.utime(path, (LONG_AGO, LONG_AGO))

    with pytest.raises(CannotAsk, match="1 instances have no directory here, web for one"):
        upkeep(fleet).clean()

    assert len(list((root / "cache").glob("*.qcow2"))) == 1


@pytest.fixture
def audit(fleet: Fleet) -> UsageAudit:
    """h1's, of hours."""
    return UsageAudit(store=fleet.store, host=H1, now=fleet.clock.now, period_s=HOUR_S)


def test_each_instance_is_told_once_a_period_with_what_it_had(fleet: Fleet, audit: UsageAudit) -> None:
    fleet.build()
    fleet.clock.sleep(HOUR_S)

    assert [audit.run(), audit.run()] == [{"instances": 1}, {}]

    (usage,) = fleet.store.usage.list_latest(10)
    assert (usage.name, usage.host, usage.vm_state, usage.vcpus, usage.memory_mib) == ("web", "h1", "active", 1, 64)
    assert usage.ended_at - usage.began_at == HOUR_S
    assert usage.ended_at % HOUR_S == 0
    assert usage.ended_at <= fleet.clock.now() < usage.ended_at + HOUR_S


def test_what_came_after_the_period_is_not_told(fleet: Fleet, audit: UsageAudit) -> None:
    fleet.build()

    assert audit.run() == {"instances": 0}


@pytest.mark.parametrize("jump_s", [-1e8, 1e8])
def test_a_clock_that_jumps_does_not_stop_the_audit(fleet: Fleet, audit: UsageAudit, jump_s: float) -> None:
    audit.run()
    fleet.clock.jump(jump_s)
    audit.run()
    fleet.clock.sleep(HOUR_S)
    before = len(fleet.store.usage.list_latest(100))
    fleet.build()
    fleet.clock.sleep(HOUR_S)

    assert audit.run() == {"instances": 1}
    assert len(fleet.store.usage.list_latest(100)) == before + 1
