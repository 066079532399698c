"""A host measures itself and its guests; what monitors make of it is kept as short series."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from tasks.monitoring import HostMonitor
from taskvisor.compute.monitors import OURS, GuestLook, Look, Monitor, Values, load_monitors
from taskvisor.model.errors import CannotAsk
from taskvisor.model.ids import HostName, InstanceId
from taskvisor.model.measured import HostUsage
from taskvisor.state.series import Series
from tests.support.fleet import KEYS, Fleet

H1 = HostName("h1")
SAMPLES = 5


class Steady:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def series(fleet: Fleet) -> Series:
    return Series(fleet.client, KEYS, samples=SAMPLES, period_s=60.0)


def monitor_of(fleet: Fleet, series: Series, monitors: Mapping[str, Monitor] | None = None) -> HostMonitor:
    steady = Steady()
    return HostMonitor(
        host=H1,
        ports=fleet.hosts[H1].ports,
        catalog=fleet.store.catalog,
        series=series,
        counters=fleet.store.counters,
        monitors=load_monitors(OURS) if monitors is None else monitors,
        now=fleet.clock.now,
        steady=steady,
    )


@pytest.fixture
def monitor(fleet: Fleet, series: Series) -> HostMonitor:
    """Of all our monitors."""
    return monitor_of(fleet, series)


def test_a_host_and_its_instances_have_a_sample_each_tick(fleet: Fleet, series: Series, monitor: HostMonitor) -> None:
    fleet.build()
    for _ in range(3):
        assert monitor.run() == {"instances": 1, "monitors_failed": 0}
        fleet.clock.sleep(60)

    host, guest = series.list_of_host(H1), series.list_of_instance(fleet.instance().id)
    assert [sample.at for sample in host] == [fleet.clock.now() - ago for ago in (60, 120, 180)]
    assert len(guest) == 3
    metrics = [metric for kind in OURS.values() for metric in kind.host_metrics]
    assert list(host[0].values) == metrics
    assert host[0].values["cpu.frequency"] == 1000
    assert guest[0].values["memory.actual"] == 64


def test_of_the_first_look_no_rate_is_told_and_of_the_next_it_is(series: Series, monitor: HostMonitor) -> None:
    monitor.run()
    monitor.run()

    latest, first = series.list_of_host(H1)
    assert first.values["cpu.percent"] is None
    assert latest.values["cpu.percent"] is not None


def test_only_so_many_samples_are_kept_and_none_for_ever(fleet: Fleet, series: Series, monitor: HostMonitor) -> None:
    fleet.build()
    for _ in range(SAMPLES + 3):
        monitor.run()

    key = KEYS.series_of_instance(fleet.instance().id)
    assert len(series.list_of_host(H1)) == len(series.list_of_instance(fleet.instance().id)) == SAMPLES
    assert 0 < fleet.client.ttl(key) <= 3600


def test_guests_that_are_nobodys_or_anothers_are_not_kept(fleet: Fleet, monitor: HostMonitor) -> None:
    fleet.hosts[H1].outsider.ensure_foreign_domain(InstanceId("00000000-0000-4000-8000-00000000f00d"), "stranger")

    assert monitor.run() == {"instances": 0, "monitors_failed": 0}
    assert list(fleet.client.scan_iter("*series:instance:*")) == []


class Failing(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = {"broken": "of 1"}
    guest_metrics: ClassVar[Mapping[str, str]] = {"broken": "of 1"}

    def host_values(self, now: Look, before: Look | None) -> Values:
        raise ZeroDivisionError

    def guest_values(self, now: GuestLook, before: GuestLook | None) -> Values:
        raise OSError("no sensor")


class Nonsense(Monitor):
    host_metrics: ClassVar[Mapping[str, str]] = {"nonsense": "of 1"}

    def __init__(self, value: object) -> None:
        self._value = value

    def host_values(self, now: Look, before: Look | None) -> Values:
        return {"nonsense": self._value}  # type: ignore[dict-item]


def test_a_monitor_that_fails_is_logged_and_counted_and_hinders_no_other(fleet: Fleet, series: Series) -> None:
    fleet.build()
    fleet.build("second")
    monitor = monitor_of(fleet, series, {"broken": Failing(), **load_monitors(["memory"])})

    with capture_logs() as logged:
        assert monitor.run() == {"instances": 2, "monitors_failed": 1}

    assert [(line["event"], line["monitor"]) for line in logged] == [("monitor_failed", "broken")]
    assert fleet.store.counters.read()["monitors_failed|broken"] == 1
    (sample,) = series.list_of_host(H1)
    assert (sample.values["broken"], sample.values["memory.total"]) == (None, 65_536)


@pytest.mark.parametrize("value", ["much", float("nan"), float("inf"), [1]])
def test_what_is_no_number_is_not_told(fleet: Fleet, series: Series, value: object) -> None:
    monitor = monitor_of(fleet, series, {"nonsense": Nonsense(value), **load_monitors(["memory"])})

    assert monitor.run()["monitors_failed"] == 1
    assert series.list_of_host(H1)[0].values["memory.total"] == 65_536


class Deaf:
    def read_usage(self) -> HostUsage:
        raise CannotAsk("libvirtd is down")


def test_a_hypervisor_that_cannot_be_asked_leaves_no_sample(fleet: Fleet, series: Series, monitor: HostMonitor) -> None:
    monitor.ports = replace(fleet.hosts[H1].ports, hypervisor=Deaf())  # type: ignore[arg-type]

    with pytest.raises(CannotAsk):
        monitor.run()

    assert series.list_of_host(H1) == ()


def test_without_monitors_nothing_is_looked_at(fleet: Fleet, series: Series) -> None:
    assert monitor_of(fleet, series, {}).run() == {}


def test_a_sample_of_other_monitors_stays_readable_beside_new_ones(fleet: Fleet, series: Series) -> None:
    monitor_of(fleet, series, load_monitors(["memory"])).run()
    monitor_of(fleet, series, load_monitors(["disk"])).run()

    latest, former = Series(fleet.client, KEYS).list_of_host(H1)
    assert ("disk.free" in latest.values, "memory.free" in former.values) == (True, True)


def test_what_somebody_else_has_pushed_is_passed_over(fleet: Fleet, series: Series, monitor: HostMonitor) -> None:
    monitor.run()
    fleet.client.lpush(KEYS.series_of_host(H1), "rubbish", "", "0123456789ab[1,2]")

    assert len(series.list_of_host(H1)) == 1
    assert series.list_latest_of_hosts([H1]) == {}
