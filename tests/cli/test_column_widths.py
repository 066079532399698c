"""Tables on a terminal: no line is wider, nothing is cut without `…`, sentences break between words, numbers stay whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from taskvisor.cli.column_widths import COLUMN_GAP, column_widths
from taskvisor.cli.render import table_of

SENTENCE = "Contradiction: tap54000001-ab belongs to instance 6ba7b810-9dad-11d1-80b4-00c04fd430c8; left alone"
ROW = (
    "database-replica-number-0",
    "active",
    "10.152.0.2",
    "kvm-17.rack-4.dc-2.example.org",
    "4096",
    "https://x.example/" + "y" * 80,
)
COLUMNS = ("NAME", "STATE", "ADDRESS", "HOST", "#MEMORY MiB", "IMAGE")


def drawn(columns: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table_of(columns, rows, width=width))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 160, 300])
def test_a_row_of_names_is_one_line_and_what_is_cut_says_so(width: int) -> None:
    heading, line = drawn(COLUMNS, [ROW], width)
    assert max(len(heading), len(line)) <= width
    for whole in ("active", "10.152.0.2", "4096"):
        assert whole in line.split()
    for cell, shown in zip(ROW, line.split(), strict=True):
        assert shown == cell or (shown.endswith("…") and cell.startswith(shown[:-1]))


def test_a_wide_terminal_shows_all() -> None:
    assert drawn(COLUMNS, [ROW], 300)[1].split() == list(ROW)


def test_a_sentence_is_wrapped_between_its_words_and_whole() -> None:
    lines = drawn(("ID", "HOST", "WHY", "SINCE"), [("dba755ff", ROW[3], SENTENCE, "16s")], 80)
    assert all(len(line) <= 80 for line in lines)
    assert "16s" in lines[1]
    start = lines[0].index("WHY")
    words = " ".join(line[start:].removesuffix("16s").strip() for line in lines[1:]).split()
    assert words == SENTENCE.split()


@given(
    st.integers(1, 200),
    st.lists(st.lists(st.text("ab ", max_size=60), min_size=4, max_size=4), max_size=5),
)
def test_it_fits_wherever_each_column_can_have_a_cell(width: int, rows: list[list[str]]) -> None:
    columns = ("NAME", "#SIZE", "WHY", "HOST")
    widths = column_widths(columns, [[Text(cell) for cell in row] for row in rows], width)
    gaps = COLUMN_GAP * (len(columns) - 1)
    assert sum(widths) + gaps <= max(width, len(columns) + gaps)
    assert all(one >= 1 for one in widths)
