"""`taskvisor launch --dry-run`: what a build would come to, told by the host that it would go to. Nothing is touched anywhere."""

from collections.abc import Mapping
from typing import Any

from taskvisor.cli.exits import ExitCode
from taskvisor.cli.quantities import bytes_text
from taskvisor.cli.records import open_client, settings_or_usage_error
from taskvisor.cli.render import Format, out, say, show_json, show_table
from taskvisor.cli.safe_text import safe_text
from taskvisor.cli.why import show_explanation
from taskvisor.model.fleet_views import PlanView
from taskvisor.model.ids import HostName

PLAN_LIMIT_S = 60.0
"""A look by a control node, and one by the host that it finds."""


def show_plan(fields: Mapping[str, Any], *, limit_s: float, form: Format) -> ExitCode:
    """Ask for the plan and show it. Errors are those of the build's own door; StillRunning when the host does not answer."""
    with open_client(settings_or_usage_error()) as client:
        plan = client.plan(**fields).wait(min(limit_s, PLAN_LIMIT_S))
    if form is Format.JSON:
        show_json(plan)
    else:
        _show(plan)
    return ExitCode.DONE


def _show(plan: PlanView) -> None:
    show_explanation(HostName(plan["host"]), plan["placement"])
    out().print()
    disks = ((one["device"], one["role"], one["bus"], one["format"], _size(one), one["path"]) for one in plan["disks"])
    show_table(("DISK", "ROLE", "BUS", "FORMAT", "#SIZE", "PATH"), disks, empty="")
    out().print()
    nics = (
        (one["tap"], one["bridge"], one["mac"], one["address"], one["kind"], str(one["mtu"])) for one in plan["nics"]
    )
    show_table(("LINK", "ON", "MAC", "ADDRESS", "NETWORK", "#MTU"), nics, empty="It has no NICs.")
    out().print()
    out().print(safe_text(plan["xml"]), markup=False)
    say("Nothing was touched. Not decided before a build is let in: " + "; ".join(plan["allocated"]))


def _size(disk: Mapping[str, Any]) -> str:
    return bytes_text(disk["size_bytes"]) if disk["size_bytes"] else "as its image"
