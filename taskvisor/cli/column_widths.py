"""How wide the columns of a table are on a terminal that is narrower than what they hold. Pure.

Left to rich, the widest gives way whatever it holds: names are broken in the middle of a word, and an address is cut beside
an image's URL that needs no room. Here a column gives way in the order of what is least missed.
"""

from collections.abc import Iterable, Sequence

from rich.text import Text

COLUMN_GAP = 2
NAME_LENGTH, BLANKS_IN_A_NAME = 24, 2
"""What is longer and has more blanks is read, not typed: it may stand on several lines."""
SENTENCE_WIDTH = 38
"""Of such lines: an id and a comma fit."""
FIRST_WIDTH, NAME_WIDTH = 20, 10
"""What remains of the first column, by which a row is known, and of others, as long as that is possible."""


def is_sentence(text: str) -> bool:
    """Whether it is read, and so may be wrapped."""
    return len(text) > NAME_LENGTH and text.count(" ") > BLANKS_IN_A_NAME


def column_widths(columns: Sequence[str], rows: Sequence[Sequence[Text]], available: int) -> list[int]:
    """A width each, whose sum and the gaps between them are no more than `available`, if every column can have one cell.

    A column whose name begins with "#" holds numbers, which give way last.
    """
    titles = [len(name.lstrip("#")) for name in columns]
    widths = [max([title, *(row[n].cell_len for row in rows)]) for n, title in enumerate(titles)]
    room = available - COLUMN_GAP * (len(columns) - 1)
    numbers = {n for n, name in enumerate(columns) if name.startswith("#")}
    read = {n for n in range(len(columns)) if any(is_sentence(row[n].plain) for row in rows)} - numbers
    named = set(range(len(columns))) - numbers - read
    floors = {n: max(titles[n], FIRST_WIDTH if n == 0 else NAME_WIDTH) for n in named}
    _narrow(widths, {n: max(titles[n], SENTENCE_WIDTH) for n in read}, room)
    _narrow(widths, floors, room)
    _narrow(widths, {n: titles[n] for n in read | named}, room)
    _narrow(widths, dict.fromkeys(range(len(columns)), 1), room)
    return widths


def _narrow(widths: list[int], floors: dict[int, int], room: int) -> None:
    """The widest of these give way, one cell at a time, until all fit or none of them can any more."""
    for _ in _excess(widths, room):
        wide = [n for n, floor in floors.items() if widths[n] > floor]
        if not wide:
            return
        widths[max(wide, key=lambda n: widths[n])] -= 1


def _excess(widths: Sequence[int], room: int) -> Iterable[int]:
    return range(max(0, sum(widths) - room))
