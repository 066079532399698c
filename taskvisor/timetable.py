"""The timetable: what is done again and again, how often, where, and why. A table, and what the settings make of it.

A row is all that beat, the page (docs/timetable.md), `taskvisor ticks` and the metrics know of a periodic task; what it does is
its task's. Must never know who sends it, or how.
"""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.settings import Settings

LATE_PERIODS = 3
"""A periodic task that has not begun for so many of its periods is late."""


class Where(StrEnum):
    """Who does it."""

    FLEET = "any control node"
    CONTROL = "each host's control node"
    STEPS = "each host's steps node"  # what may take minutes, and must not keep requests waiting


@dataclass(frozen=True, kw_only=True)
class Row:
    """A periodic task. `period` and `needs` are names of settings: how often, and which must not be 0 or empty for it."""

    name: str
    task: str
    where: Where
    period: str
    reason: str
    needs: str | None = None


ROWS: tuple[Row, ...] = (
    Row(
        name="sweep",
        task="operation.sweep",
        where=Where.FLEET,
        period="sweep_s",
        reason="Operations that have stalled are sent on: a message may be lost, and a worker may die with it.",
    ),
    Row(
        name="hosts",
        task="hosts.check",
        where=Where.FLEET,
        period="host_check_s",
        reason="Who fell silent, or came back, is told once in the stream of events; nothing is moved or deleted for it.",
    ),
    Row(
        name="builds",
        task="builds.time_out",
        where=Where.FLEET,
        period="build_check_s",
        needs="instance_build_timeout_s",
        reason="A build that takes too long is cancelled and rolled back: nobody waits for ever.",
    ),
    Row(
        name="deletes",
        task="host.retry_deletes",
        where=Where.CONTROL,
        period="delete_retry_s",
        reason="Instances whose delete failed half-way are deleted again: the host may be able to by now.",
    ),
    Row(
        name="reclaim",
        task="host.reclaim",
        where=Where.CONTROL,
        period="reclaim_check_s",
        needs="reclaim_s",
        reason="What was deleted softly, and not restored in time, gives back what it holds.",
    ),
    Row(
        name="track",
        task="host.track",
        where=Where.CONTROL,
        period="track_s",
        reason="Placement goes by what hosts have now: disks fill up, and hypervisors are upgraded.",
    ),
    Row(
        name="monitor",
        task="host.monitor",
        where=Where.CONTROL,
        period="monitor_s",
        reason="How busy the host and its guests are is measured, for people, Prometheus and weighers.",
    ),
    Row(
        name="power",
        task="host.sync_power_states",
        where=Where.CONTROL,
        period="power_sync_s",
        reason="Guests shut down, crash and vanish by themselves, and an event of it may be missed.",
    ),
    Row(
        name="networks",
        task="host.check_networks",
        where=Where.CONTROL,
        period="networks_s",
        reason="Somebody may have flushed the rules, removed a link or ended a DHCP server; plugs are made whole again.",
    ),
    Row(
        name="orphans",
        task="host.check_orphans",
        where=Where.CONTROL,
        period="orphans_s",
        reason="What no record is of is noted, seen once more after a while, and then dealt with as the policy says.",
    ),
    Row(
        name="records",
        task="host.keep_records",
        where=Where.CONTROL,
        period="records_s",
        reason="Copies of the records lie beside what they are about, so that a lost store can be rebuilt from the hosts.",
    ),
    Row(
        name="image_cache",
        task="host.clean_image_cache",
        where=Where.STEPS,
        period="image_cache_s",
        reason="Images that nobody builds from any more, and that no disk stands on, give back their room.",
    ),
    Row(
        name="prewarm",
        task="host.prewarm_images",
        where=Where.STEPS,
        period="prewarm_s",
        needs="prewarm_images",
        reason="A build need not wait for an image that was fetched before it was asked for.",
    ),
    Row(
        name="usage",
        task="host.audit_usage",
        where=Where.CONTROL,
        period="usage_audit_s",
        reason="Who accounts for instances is told what each of them had in each period.",
    ),
)
"""Every periodic task there is."""

BY_TASK = {row.task: row for row in ROWS}


def period_s_of(row: Row, settings: Settings) -> float | None:
    """How often it is done, by these settings; None: never."""
    if row.needs is not None and not getattr(settings, row.needs):
        return None
    period_s: float = getattr(settings, row.period)
    return period_s or None
