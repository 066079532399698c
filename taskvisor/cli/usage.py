"""`taskvisor usage`: what each instance had, period by period, where TASKVISOR_USAGE_AUDIT_S has it told."""

from dataclasses import asdict
from typing import Annotated

import typer

from taskvisor.cli.quantities import time_text
from taskvisor.cli.records import open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, show_rows


def usage(
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="So many entries, the latest first.")
    ] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what instances had in the periods that were audited."""
    with open_records(settings_or_usage_error()) as records:
        found = records.usage.list_latest(limit)
    views = [asdict(one) for one in found]
    columns = ("UNTIL", "NAME", "PROJECT", "HOST", "STATE", "FLAVOR", "#CPUS", "#MEMORY MiB", "#DISK GiB")
    rows = (
        (
            time_text(one.ended_at),
            one.name,
            one.project,
            one.host,
            one.vm_state,
            one.flavor,
            str(one.vcpus),
            str(one.memory_mib),
            str(one.disk_gib),
        )
        for one in found
    )
    show_rows(
        form,
        columns,
        rows,
        views,
        empty="No period was audited yet; TASKVISOR_USAGE_AUDIT_S=3600 has one audited each hour.",
    )
