"""What `taskvisor top` shows: one picture that fits a terminal of any size. Pure: knows neither the store nor the keys.

Nothing is wrapped. What is too wide ends in `…`, and what is too many is counted in a last line.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskvisor.cli.host_state import host_state_text
from taskvisor.cli.quantities import age_text, bytes_text, clock_text, seconds_text
from taskvisor.cli.render import worded
from taskvisor.cli.safe_text import safe_line
from taskvisor.model.allowed import state_text
from taskvisor.model.ids import HostName, InstanceId, OperationId
from taskvisor.model.measured import Sample
from taskvisor.model.operation import Operation
from taskvisor.model.records import Host, Instance
from taskvisor.model.states import Phase

CPU_OF_HOST, CPU_OF_GUEST = "cpu.percent", "cpu.usage"
HEADING_LINES = 2
WIDE = 100
"""Columns that tell least are left out of a terminal that is narrower."""


class Order(StrEnum):
    """What hosts and instances are sorted by; the next key press takes the next."""

    NAME = "name"
    CPU = "CPU"
    AGE = "age"
    STATE = "state"

    @property
    def next(self) -> "Order":
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What was read of the fleet at one time."""

    at: float
    hosts: Sequence[Host] = ()
    instances: Sequence[Instance] = ()
    operations: Sequence[Operation] = ()
    progress: Mapping[OperationId, tuple[str, int, int | None]] | None = None
    host_samples: Mapping[HostName, Sample] | None = None
    instance_samples: Mapping[InstanceId, Sample] | None = None
    problem: str | None = None
    """Why it is older than it should be."""


def drawing_of(picture: Picture, order: Order, *, width: int, height: int) -> RenderableType:
    """The picture, no wider and no higher than the terminal."""
    hosts, operations, instances = _shares(
        max(0, height - HEADING_LINES), (len(picture.hosts), len(picture.operations), len(picture.instances))
    )
    parts: list[RenderableType] = [_summary(picture), _keys(picture, order)]
    parts += _section("HOST", _host_columns(width), _host_rows(picture, order, width), hosts)
    parts += _section("OPERATION", _operation_columns(width), _operation_rows(picture, width), operations)
    parts += _section("INSTANCE", _instance_columns(width), _instance_rows(picture, order, width), instances)
    return Group(*parts)


def _shares(lines: int, counts: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many lines each section has, its heading among them: as many as it needs, up to a third; what is left is the last's."""
    needed = [count + 1 for count in counts]
    third = lines // 3
    hosts, operations = (min(need, third) for need in needed[:2])
    instances = min(needed[2], lines - hosts - operations)
    spare = lines - hosts - operations - instances
    hosts_more = min(needed[0] - hosts, spare)
    operations_more = min(needed[1] - operations, spare - hosts_more)
    return hosts + hosts_more, operations + operations_more, instances


def _summary(picture: Picture) -> Text:
    up = sum(host.up for host in picture.hosts)
    states: dict[str, int] = {}
    for instance in picture.instances:
        states[instance.vm_state.value] = states.get(instance.vm_state.value, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda one: -one[1]))
    stuck = sum(operation.phase is Phase.STUCK for operation in picture.operations)
    line = Text(f"{clock_text(picture.at)}  ", style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"{up}/{len(picture.hosts)} hosts up  ")
    line.append(f"{len(picture.instances)} instances{f' ({told})' if told else ''}  ")
    line.append(f"{len(picture.operations) - stuck} operations")
    if stuck:
        line.append(f"  {stuck} stuck", style="bold red")
    return line


def _keys(picture: Picture, order: Order) -> Text:
    if picture.problem is not None:
        return Text(f"not fresh: {safe_line(picture.problem)}", style="yellow", no_wrap=True, overflow="ellipsis")
    return Text(f"by {order.value}; s sorts otherwise, q leaves", style="dim", no_wrap=True, overflow="ellipsis")


def _section(
    what: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]], lines: int
) -> Iterable[RenderableType]:
    """A heading and rows, in so many lines; the last says how many more there are."""
    if lines < 1:
        return
    fitting = rows if len(rows) < lines else rows[: max(0, lines - 2)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="reverse bold", expand=True)
    for name in columns:
        numbers = name.startswith("#")
        table.add_column(
            name.lstrip("#"),
            justify="right" if numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=None if numbers else 1,
        )
    for row in fitting:
        table.add_row(*(worded(cell) for cell in row))
    yield table
    if len(rows) > len(fitting) and lines > 1:
        yield Text(f"… and {len(rows) - len(fitting)} more: {what}", style="dim", no_wrap=True, overflow="ellipsis")


def _host_columns(width: int) -> Sequence[str]:
    return (
        "HOST",
        "STATE",
        "#CPU",
        "#VMS",
        "#VCPUS",
        "#MEMORY MiB",
        *(("#DISK GiB", "#REPORTED") if width >= WIDE else ()),
    )


def _host_rows(picture: Picture, order: Order, width: int) -> list[tuple[str, ...]]:
    samples = picture.host_samples or {}
    loads = {host.name: _load(samples.get(host.name), CPU_OF_HOST) for host in picture.hosts}
    keys: Mapping[Order, Callable[[Host], object]] = {
        Order.NAME: lambda host: host.name,
        Order.CPU: lambda host: (-(loads[host.name] or 0.0), host.name),
        Order.AGE: lambda host: (-(host.reported_at or 0.0), host.name),
        Order.STATE: lambda host: (host.up, host_state_text(host), host.name),
    }
    return [
        _host_row(host, loads[host.name], picture.at, width)
        for host in sorted(picture.hosts, key=keys[order])  # type: ignore[arg-type]
    ]


def _host_row(host: Host, load: float | None, now: float, width: int) -> tuple[str, ...]:
    limits, used = (host.inventory.limits if host.inventory else None), host.used
    amounts = ["-"] * 3
    if limits is not None:
        pairs = ((used.vcpus, limits.vcpus), (used.memory_mib, limits.memory_mib), (used.disk_gib, limits.disk_gib))
        amounts = [f"{has}/{may}" for has, may in pairs]
    told = f"{age_text(now - host.reported_at)} ago" if host.reported_at else "never"
    cells = (host.name, host_state_text(host), _percent(load), str(host.instances), *amounts[:2])
    return (*cells, amounts[2], told) if width >= WIDE else cells


def _operation_columns(width: int) -> Sequence[str]:
    return ("OPERATION", "OF", "STEP", "#DONE", "#FOR", *(("HOST", "ID") if width >= WIDE else ()))


def _operation_rows(picture: Picture, width: int) -> list[tuple[str, ...]]:
    """Those that are stuck first, then the oldest."""
    ordered = sorted(picture.operations, key=lambda one: (one.phase is not Phase.STUCK, one.created_at))
    return [_operation_row(operation, picture, width) for operation in ordered]


def _operation_row(operation: Operation, picture: Picture, width: int) -> tuple[str, ...]:
    stopped = operation.failure if operation.phase.settled else None
    step = operation.current_step if stopped is None else stopped.step
    number = f" {operation.number_of(step)}/{len(operation.steps)}" if step and stopped is None else ""
    progress = (picture.progress or {}).get(operation.id)
    done = "-"
    if progress is not None and progress[0] == step:
        done = f"{progress[1] * 100 // progress[2]} %" if progress[2] else bytes_text(progress[1])
    what = operation.flow.removeprefix("instance.")
    phase = "" if operation.phase is Phase.RUNNING else f"{operation.phase.value}: "
    cells = (
        what,
        operation.instance_name,
        f"{phase}{step or 'ending'}{number}",
        done,
        seconds_text(picture.at - operation.created_at),
    )
    return (*cells, operation.host, operation.id) if width >= WIDE else cells


def _instance_columns(width: int) -> Sequence[str]:
    return ("INSTANCE", "STATE", "#CPU", "HOST", "ADDRESS", "#AGE", *(("FLAVOR", "IMAGE") if width >= WIDE else ()))


def _instance_rows(picture: Picture, order: Order, width: int) -> list[tuple[str, ...]]:
    samples = picture.instance_samples or {}
    loads = {one.id: _load(samples.get(one.id), CPU_OF_GUEST) for one in picture.instances}
    keys: Mapping[Order, Callable[[Instance], object]] = {
        Order.NAME: lambda one: one.name,
        Order.CPU: lambda one: (-(loads[one.id] or 0.0), one.name),
        Order.AGE: lambda one: (-one.created_at, one.name),
        Order.STATE: lambda one: (one.vm_state.value == "active", state_text(one), one.name),
    }
    return [
        _instance_row(one, loads[one.id], picture.at, width)
        for one in sorted(picture.instances, key=keys[order])  # type: ignore[arg-type]
    ]


def _instance_row(one: Instance, load: float | None, now: float, width: int) -> tuple[str, ...]:
    address = ", ".join(one.addresses) or "-"
    cells = (one.name, state_text(one), _percent(load), one.host, address, age_text(now - one.created_at))
    return (*cells, one.flavor.name, one.image_name) if width >= WIDE else cells


def _load(sample: Sample | None, metric: str) -> float | None:
    return None if sample is None else sample.values.get(metric)


def _percent(load: float | None) -> str:
    return "-" if load is None else f"{load * 100:.0f} %"
