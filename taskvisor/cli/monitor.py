"""`taskvisor monitor HOST|NAME`: what was measured of a host or an instance, now and over the samples that are kept."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from taskvisor.cli.quantities import seconds_text, time_text
from taskvisor.cli.records import Records, complete_measured, open_records, settings_or_usage_error
from taskvisor.cli.render import Format, FormatOption, say, show_rows
from taskvisor.model.errors import Refused
from taskvisor.model.ids import HostName
from taskvisor.model.measured import Sample


def monitor(
    name: Annotated[str, typer.Argument(metavar="HOST|NAME", autocompletion=complete_measured)],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what was measured of a host, or of an instance by name or id: the latest, and over all samples that are kept."""
    with open_records(settings_or_usage_error()) as records:
        samples = _samples_of(records, name)
    empty = f"Nothing of {name} was measured yet; see TASKVISOR_MONITOR_S and TASKVISOR_MONITORS."
    if form in (Format.JSON, Format.YAML):  # every sample; the table sums them up
        views = ({"at": sample.at, "values": dict(sample.values)} for sample in samples)
        show_rows(form, ("AT",), ((time_text(sample.at),) for sample in samples), views, empty=empty)
        return
    rows = list(_rows(samples))
    columns = ("METRIC", "#NOW", "#LEAST", "#MEAN", "#MOST")
    show_rows(form, columns, rows, ({} for _ in rows), empty=empty)
    if samples and form is Format.TABLE:
        age, span = seconds_text(time.time() - samples[0].at), seconds_text(samples[0].at - samples[-1].at)
        say(f"{len(samples)} samples over {span}, the latest {age} ago.")


def _samples_of(records: Records, name: str) -> tuple[Sample, ...]:
    """A host's name comes first: an instance of that name can be named by its id."""
    if any(host == name for host, _ in records.hosts.list_alive()):
        return records.series.list_of_host(HostName(name))
    instance = records.catalog.find_instance(name)
    if instance is None:
        raise Refused(f"there is no host and no instance {name!r}; see `taskvisor hosts` and `taskvisor list`")
    return records.series.list_of_instance(instance.id)


def _rows(samples: Sequence[Sample]) -> Iterator[tuple[str, ...]]:
    metrics = dict.fromkeys(metric for sample in samples for metric in sample.values)
    for metric in metrics:
        values = [value for sample in samples if (value := sample.values.get(metric)) is not None]
        if values:
            now = samples[0].values.get(metric)
            yield (metric, _text(now), _text(min(values)), _text(sum(values) / len(values)), _text(max(values)))


def _text(value: float | None) -> str:
    """To three digits, or all of a whole number."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"
