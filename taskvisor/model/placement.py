"""Why a host was chosen, as it is kept with the operation, for `taskvisor why`. Bounded, whatever the fleet's size."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskvisor.model.ids import HostName

Row = Mapping[str, str]
"""What one rule said against one host: `host`, `rule`, `reason`, and `remedy`, which is what would make it fit."""


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """What one weigher made of a host: its number, where that lies between the least (0) and the most (1) of all that fitted,
    and what that counts for.
    """

    number: float
    share: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class WeighedHost:
    """A host that fitted. `score` is the sum of shares times weights; a weigher whose numbers were all the same is no part."""

    host: HostName
    score: float
    parts: Mapping[str, Weighed] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The look at the fleet in which a host was chosen, or none: `hosts` in all, of which so many were `fitting`.

    `refused` is how many hosts each rule refused; `left_out` of the hosts refused are not told of one by one. `best` are the
    chosen host and the runners-up, best first.
    """

    hosts: int
    fitting: int
    refused: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    best: tuple[WeighedHost, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """All that is kept of a placement: what speaks against hosts, nearest misses first, and how the others were weighed."""

    rows: tuple[Row, ...]
    choice: Choice
