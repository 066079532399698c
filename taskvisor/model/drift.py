"""Where a guest is not what its record makes of it: one difference by one, each under a code that scripts may rely on.

A code is `drift.` and the place in the definition, in libvirt's words, without what tells one of a kind from another:
`drift.disk.cache` is the cache of any disk, and `place` says of which. docs/verify.md lists them.
"""

from dataclasses import dataclass
from enum import StrEnum

from taskvisor.model.ids import InstanceId


class Holds(StrEnum):
    """When what was found is so: a domain that runs has a definition of its own until its next start."""

    ALWAYS = "now and after its next start"
    NEXT_START = "from its next start"
    UNTIL_NEXT_START = "until its next start"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`recorded` None: nothing of the kind is recorded; `found` None: nothing of the kind is there."""

    code: str
    place: str
    recorded: str | None
    found: str | None
    holds: Holds = Holds.ALWAYS


@dataclass(frozen=True, kw_only=True)
class GuestDrift:
    """What was found of one guest: in its domain's definition, and in the files of its disks. `more` were left out."""

    instance_id: InstanceId
    differences: tuple[Difference, ...]
    more: int = 0
