"""`taskvisor launch --dry-run`: what a build would come to, told by the host that it would go to. Nothing is touched anywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskvisor.cli.exits import ExitCode
from taskvisor.cli.quantities import bytes_text
from taskvisor.cli.records import open_client, settings_or_usage_error
from taskvisor.cli.render import Format, out, say, show_record, show_rows, show_table, shows_all
from taskvisor.cli.safe_text import safe_text
from taskvisor.cli.why import show_explanation
from taskvisor.model.fleet_views import PlanView
from taskvisor.model.ids import HostName

PLAN_LIMIT_S = 60.0
"""A look by a control node, and one by the host that it finds."""


def show_plans(builds: Sequence[Mapping[str, Any]], *, limit_s: float, form: Format) -> ExitCode:
    """Ask for the plan of each and show it. Each is planned as if it were alone: what one would take is still free for the next.

    Errors are those of the build's own door; StillRunning when a host does not answer.
    """
    with open_client(settings_or_usage_error()) as client:
        plans = [client.plan(**fields).wait(min(limit_s, PLAN_LIMIT_S)) for fields in builds]
    rows = [(fields["name"], plan["host"]) for fields, plan in zip(builds, plans, strict=True)]
    if not shows_all(form):
        if len(plans) == 1:
            show_record(form, zip(("Name", "Host"), rows[0], strict=True), plans[0])
        else:
            show_rows(form, ("NAME", "HOST"), rows, plans, empty="")
        return ExitCode.DONE
    for (name, _), plan in zip(rows, plans, strict=True):
        if len(plans) > 1:
            out().print(f"\n{safe_text(name)}", style="bold")
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
