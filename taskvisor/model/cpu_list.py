"""Lists of CPUs as Linux and libvirt write them: 0-3,8. https://docs.kernel.org/admin-guide/cputopology.html"""

from collections.abc import Iterable
from itertools import groupby

CPUS_LIMIT = 65_536
"""Numbers from here on are no CPU of any host: a slip of the pen would else fill the memory."""


def parse_cpu_list(text: str) -> frozenset[int]:
    """The CPUs of such a list; none for an empty one. ValueError when it is none, or its numbers are not in order."""
    return frozenset(cpu for part in filter(None, text.strip().split(",")) for cpu in _range_of(part))


def cpu_list_text(cpus: Iterable[int]) -> str:
    """The list of these CPUs: 0-3,8."""
    texts: list[str] = []
    ordered = sorted(set(cpus))
    for _, run in groupby(enumerate(ordered), key=lambda numbered: numbered[1] - numbered[0]):
        cpus_of_run = [cpu for _, cpu in run]
        first, last = cpus_of_run[0], cpus_of_run[-1]
        texts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(texts)


def _range_of(part: str) -> range:
    first, dash, last = (piece.strip() for piece in part.partition("-"))
    low, high = _number(first, part), _number(last, part) if dash else _number(first, part)
    if not low <= high < CPUS_LIMIT:
        raise ValueError(f"{part!r} is no range of CPUs; write the lower one first, like 0-3")
    return range(low, high + 1)


def _number(text: str, part: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{part!r} is no CPU and no range of them; write them like 0-3,8")
    return int(text)
