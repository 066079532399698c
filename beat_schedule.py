"""What beat sends, and how often. Each entry is sent once; one that is for hosts is fanned out to each live host.

Every entry expires when the next is due: ticks never pile up behind a node that is down.
"""

from datetime import timedelta
from typing import Any

from taskvisor.settings import Settings


def schedule_for(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `beat_schedule` of these settings."""
    return {
        "sweep": _entry("operation.sweep", settings.sweep_s),
        "track": _for_each_host("host.track", settings.track_s),
        "sync_power_states": _for_each_host("host.sync_power_states", settings.power_sync_s),
        "networks": _for_each_host("host.check_networks", settings.networks_s),
    }


def _entry(task: str, period_s: float, kwargs: dict[str, Any] | None = None) -> dict[str, Any]:
    options = {"queue": "compute", "expires": period_s, "ignore_result": True}
    return {"task": task, "schedule": timedelta(seconds=period_s), "kwargs": kwargs or {}, "options": options}


def _for_each_host(task: str, period_s: float) -> dict[str, Any]:
    return _entry("host.fan_out", period_s, {"task": task, "period_s": period_s})
