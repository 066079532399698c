"""How long something has waited is counted by looks, so that no clock can make it old."""

from taskvisor.compute.patience import Waited, waited_after

PERIOD_S = 60.0


def looks(*times: float) -> float:
    """How long a thing has waited after looks at these times."""
    waited: dict[str, Waited] = {}
    for now in times:
        waited = waited_after(waited, ["it"], now=now, period_s=PERIOD_S)
    return waited["it"].waited_s


def test_what_is_seen_first_has_not_waited() -> None:
    assert looks(1000.0) == 0


def test_each_look_adds_the_time_since_the_last() -> None:
    assert looks(1000.0, 1060.0, 1121.0) == 121


def test_a_clock_that_jumps_ahead_makes_nothing_old() -> None:
    assert looks(1000.0, 1060.0, 1e9, 1e9 + 60) == 60 + 2 * PERIOD_S + 60


def test_a_clock_that_is_put_back_makes_nothing_young_and_stops_nothing() -> None:
    assert looks(1e9, 1e9 + 60, 1000.0, 1060.0) == 120


def test_time_in_which_nobody_looked_counts_for_two_periods_at_most() -> None:
    assert looks(0.0, 7 * 86400.0) == 2 * PERIOD_S


def test_what_is_not_there_any_more_is_forgotten() -> None:
    before = {"gone": Waited(waited_s=5.0, seen_at=1.0)}

    assert waited_after(before, [], now=2.0, period_s=PERIOD_S) == {}
