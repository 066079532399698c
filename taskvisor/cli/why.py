"""`taskvisor why`: why a host was chosen, and what speaks against the others. Reads records; asks for nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import typer

from taskvisor.cli.records import Records, complete_build, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, out, show_fields, show_record, show_table, shows_all
from taskvisor.model.errors import Refused
from taskvisor.model.fleet_views import ExplanationView, explanation_view, view_of_explanation
from taskvisor.model.ids import HostName, OperationId, instance_id_for
from taskvisor.model.operation import Operation

BUILD = "instance.build"
OPERATIONS_LIMIT = 10_000
"""So many of the latest operations are looked through for the one that built an instance."""


def why(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|NAME",
            help="A build's id or the beginning of it, or an instance's name.",
            autocompletion=complete_build,
        ),
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show why an instance is on its host, or why no host takes it: every rule's reasons, with numbers, and what would help."""
    with open_records(settings_or_usage_error()) as records:
        host, explanation = _explanation_of(records, what)
    if shows_all(form):
        show_explanation(host, explanation)
    else:
        show_record(form, _summary(host, explanation), {"host": host, **explanation})


def show_explanation(host: HostName | None, explanation: ExplanationView) -> None:
    """The explanation for people, on standard output."""
    show_fields(_summary(host, explanation))
    choice = explanation["choice"]
    if choice is not None and choice["best"]:
        out().print()
        show_table(("FITS", "#SCORE", "WHY"), _weighed_rows(explanation), empty="")
    if explanation["refusals"]:
        out().print()
        show_refusals(explanation["refusals"])


def show_refusals(refusals: Iterable[Mapping[str, str]]) -> None:
    """What speaks against hosts, as a table on standard output. What an older version recorded has no remedies."""
    rows = (
        (row.get("host", ""), row.get("rule", ""), row.get("reason", ""), row.get("remedy", "")) for row in refusals
    )
    show_table(("NOT ON", "RULE", "REASON", "WHAT WOULD HELP"), rows, empty="")


def _summary(host: HostName | None, explanation: ExplanationView) -> Iterator[tuple[str, str]]:
    yield "Host", host or "none"
    choice = explanation["choice"]
    if choice is None:
        return
    yield "Hosts", f"{choice['hosts']} looked at, {choice['fitting']} fitted"
    if choice["refused"]:
        yield "Refused by", ", ".join(f"{rule} {hosts}" for rule, hosts in sorted(choice["refused"].items()))
    if choice["left_out"]:
        yield "Not shown", f"{choice['left_out']} hosts that were refused, farther from fitting than those below"


def _weighed_rows(explanation: ExplanationView) -> Iterator[tuple[str, ...]]:
    choice = explanation["choice"]
    for one in choice["best"] if choice else ():
        parts = (
            f"{name} {part['number']:g} ({part['share']:.2f} x {part['weight']:g})"
            for name, part in one["parts"].items()
        )
        yield one["host"], f"{one['score']:.3f}", ", ".join(parts) or "nothing told it from the others"


def _explanation_of(records: Records, what: str) -> tuple[HostName | None, ExplanationView]:
    refused = records.explanations.read(OperationId(what))
    if refused is not None and records.catalog.read_operation(OperationId(what)) is None:
        return None, view_of_explanation(refused)
    operation = _build_of(records, what)
    return operation.host, explanation_view(operation.placement, operation.choice)


def _build_of(records: Records, what: str) -> Operation:
    """The build of that id, or of the instance of that name."""
    instance = records.catalog.find_instance(what)
    if instance is None:
        found = records.catalog.find_operation(what)
        if found.flow != BUILD:
            raise Refused(
                f"operation {found.id} is no build ({found.flow}): its host was not chosen, but its instance's"
            )
        return found
    for operation in records.catalog.list_operations(OPERATIONS_LIMIT):
        if operation.flow == BUILD and instance_id_for(operation.id) == instance.id:
            return operation
    raise Refused(
        f"the build of {instance.name} is not recorded any more; builds are kept for TASKVISOR_OPERATION_KEEP_S"
    )
