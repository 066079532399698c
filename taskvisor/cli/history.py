"""The moves of an instance's states as people and scripts see them. What is shown is read elsewhere."""

from collections.abc import Sequence

from taskvisor.cli.quantities import time_text
from taskvisor.cli.render import Format, show_rows
from taskvisor.model.history import Move, States, move_view
from taskvisor.model.records import Instance


def show_history(instance: Instance, moves: Sequence[Move], form: Format) -> None:
    """The moves, newest first."""
    views = [move_view(move) for move in moves]
    columns = ("AT", "FROM", "TO", "POWER", "BY", "WHAT", "WHY")
    empty = f"No move of {instance.name} is recorded yet: an older version wrote its record last."
    show_rows(form, columns, map(_row, moves), views, empty=empty)


def _row(move: Move) -> tuple[str, ...]:
    cause = move.cause
    flow = (cause.flow or "").removeprefix("instance.")
    return (
        time_text(cause.at),
        _text(move.former) if move.former is not None else "-",
        _text(move.states),
        move.states.power_state.label,
        cause.by,
        f"{flow} {cause.step or ''}".strip() or "-",
        cause.reason,
    )


def _text(states: States) -> str:
    return states.vm_state.value + (f"/{states.task_state.value}" if states.task_state else "")
